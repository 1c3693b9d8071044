// Package service runs a binary: command-line flags and environment
// variables, the logger, start of the component, signals, and stop in reverse order. Or it runs a command of the binary, and ends.
//
// It knows no component; main hands one in.
//
// Invariants:
//
//  1. What was started last is stopped first.
//  2. SIGINT and SIGTERM lead to a graceful stop and exit status 0; a second
//     signal during the stop ends the process at once.
//  3. A flag on the command line wins over the environment variable.
package service
