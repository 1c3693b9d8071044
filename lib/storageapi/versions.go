package storageapi

import (
	"context"

	"vmcluster/lib/model"
)

// Versioner tells whether samples which may have been read before are still what is stored.
//
// Whoever keeps what was made of samples asks before it reads them, and again before it uses what it has kept: if each of the
// stores is the same, and none has changed the range since, reading would find the same samples.
type Versioner interface {
	// Versions returns one version per store, in a fixed order, of the samples of a tenant in a range. It is an error if
	// a store does not answer: what is kept cannot be used then.
	Versions(ctx context.Context, tenant model.TenantID, r model.TimeRange) ([]Version, error)
}

// Version is the state of one store.
type Version struct {
	// Instance is another number after each start of the store.
	Instance uint64
	// Sequence counts the changes of samples up to Until, in the order in which they happen.
	Sequence uint64
	// Changed is the sequence as of the last change within the range asked for. Beyond Sequence it says
	// that the samples of the range change all the time.
	Changed uint64
	// Until is the time from which on changes are not counted, in Unix milliseconds: at most the end of the range asked for. From
	// this call on, all changes of older samples are.
	Until int64
	// DedupIntervalMs is the width of the buckets of which the store keeps one sample only; 0 when it keeps all.
	DedupIntervalMs int64
}
