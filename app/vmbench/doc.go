// Command vmbench measures a Prometheus-compatible time-series database beside
// its peers. docs/benchmarks.md tells how to use it; vmbench COMMAND -help
// lists the flags of a command.
package main
