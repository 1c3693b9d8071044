// Package pushmetrics sends the metrics of a process to where they are stored, for processes which nobody can scrape.
//
// Invariants:
//
//  1. A receiver that is slow or away holds up nobody but its own pushes, and a push never lasts longer than a minute.
//  2. Stop pushes a last time, for at most StopTimeout, and ends all goroutines.
package pushmetrics
