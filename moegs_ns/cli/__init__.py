"""The `moegs` command and the reports that it and the benchmarks write."""
