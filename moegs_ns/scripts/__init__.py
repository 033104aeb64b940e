"""One file per `moegs` command."""
