package protoparser

import "time"

// SetNumbering changes how many series a table takes, 0 turning numbering off, when tables are renewed, and the clock.
func (in *Intake) SetNumbering(maxSeries int, renewAfter time.Duration, now func() time.Time) {
	n := in.numbers
	n.maxSeries, n.renewAfter, n.crowdedAfter, n.now = maxSeries, renewAfter, renewAfter/2, now
}
