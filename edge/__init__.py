from common.core_log import quiet_core_log

quiet_core_log()
