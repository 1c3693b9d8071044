// Package logger writes log records, one a line, as text or JSON.
//
// A Logger is a constructor argument of every component that has something to
// say; there is no process-wide logger. All methods are safe for concurrent use.
// Messages have the form "cannot <verb> <noun> <value>: <cause>" for errors and
// plain sentences for the rest; some of them are a contract with operators'
// scripts, see docs/operations.md.
package logger
