package storageapi

import (
	"context"

	"vmcluster/lib/fragment"
)

// Reducer evaluates parts of queries where the data is.
type Reducer interface {
	// Reduce evaluates a fragment. A reduction without results means that the fragment is not worth it here, or cannot be
	// evaluated: the series have to be read instead. Limits that are exceeded are errors of kind Unprocessable.
	Reduce(ctx context.Context, f *fragment.Fragment) (Reduction, error)
}

// Reduction is what a fragment has come to.
type Reduction struct {
	// Results are those of the stores, in a fixed order. No fingerprint of a series occurs in two of them: what several
	// stores hold is among the excluded series of each.
	Results  []*fragment.Result
	Coverage Coverage
	// Declined says why there are no results, for people.
	Declined string
	// ForNow is set when other fragments would be declined as well for the time being.
	ForNow bool
}
