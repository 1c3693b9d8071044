// Package flagvalue holds the value types of command-line flags: byte sizes
// with suffixes, durations with day, week, month and year suffixes, and lists
// which are written as repeated flags or as one comma-separated value.
//
// All types implement flag.Value.
package flagvalue
