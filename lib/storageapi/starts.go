package storageapi

import (
	"context"

	"vmcluster/lib/model"
)

// StartWriter takes the times at which counters began to count.
type StartWriter interface {
	// AddStarts stores the value 0 at the given time of each series that has no sample at that time or later, as samples are stored, and leaves the others alone.
	// So it must be called before the first sample after the start is stored. The list and its bytes are not retained after the return and are never
	// changed. The error kinds are those of Ingester, and sending the same list again is harmless.
	AddStarts(ctx context.Context, list []model.Start) error
}
