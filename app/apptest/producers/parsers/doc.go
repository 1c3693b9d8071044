// Package parsers measures what our parsers cost, beside what reading and decompressing the same bytes costs, and beside the parsers that
// those have who defined the formats: those of Prometheus for its text format and for remote write, and the messages of OTLP. `make bench-parsers`
// runs it; docs/benchmarks.md has its figures.
//
// Figures are of CPU time of the process, not of time that has passed, so that other programs disturb them little.
package parsers
