"""The draft side: a session without I/O, its shells, the daemon and the command."""

from thinwire.common.observe.log import quiet_core_log

quiet_core_log()
