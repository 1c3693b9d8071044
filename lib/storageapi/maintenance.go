package storageapi

import (
	"context"
	"time"
)

// Maintenance is what a node does on its own disk only.
type Maintenance interface {
	// CreateSnapshot makes a durable copy of everything acknowledged before the call and returns its name.
	CreateSnapshot(ctx context.Context) (string, error)
	// Snapshots returns the sorted names of all snapshots.
	Snapshots(ctx context.Context) ([]string, error)
	// DeleteSnapshot deletes a snapshot. The error is of kind NotFound when there is none of this name.
	DeleteSnapshot(ctx context.Context, name string) error
	// LogNewSeries has each new series logged for a while and returns until when.
	LogNewSeries(d time.Duration) time.Time
}
