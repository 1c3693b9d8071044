package storageapi

import (
	"bytes"
	"context"
	"slices"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// ExemplarWriter takes exemplars of series.
type ExemplarWriter interface {
	// AddExemplars stores the exemplars and returns once they are durable and visible. Those outside retention are counted and left out. Old ones
	// may leave for new ones. The list and its bytes are not retained after the return and are never changed. The error kinds are those of
	// Ingester, and sending the same list again, here or elsewhere, is harmless.
	AddExemplars(ctx context.Context, list []model.Exemplar) error
}

// ExemplarReader finds exemplars.
type ExemplarReader interface {
	// Exemplars returns the exemplars that q asks for. The kind Unprocessable says that there are more than q.Limit.
	Exemplars(ctx context.Context, q *ExemplarQuery) (ExemplarList, error)
}

// ExemplarQuery asks for exemplars within Search.Range of the series that Search.Filters select, whether these have samples there or not. Of Search,
// only Tenant, AllTenants, Range and Filters count; package multitenant answers for AllTenants.
type ExemplarQuery struct {
	Search model.SearchQuery
	Limit  int // the largest number of exemplars; 0 means no limit
}

// ExemplarList is an answer: by series key, the exemplars of a series as model.Exemplar.Compare orders them, each once. Their bytes must not be changed.
type ExemplarList struct {
	Items    []model.Exemplar
	Coverage Coverage
}

// MergeExemplars merges answers into one.
func MergeExemplars(q *ExemplarQuery, answers ...[]model.Exemplar) ([]model.Exemplar, error) {
	out := slices.Concat(answers...)
	slices.SortStableFunc(out, compareExemplars)
	out = slices.CompactFunc(out, func(a, b model.Exemplar) bool { return compareExemplars(a, b) == 0 })
	if q.Limit > 0 && len(out) > q.Limit {
		return nil, TooManyExemplars(q.Limit)
	}
	return out, nil
}

func compareExemplars(a, b model.Exemplar) int {
	if c := bytes.Compare(a.Series, b.Series); c != 0 {
		return c
	}
	return a.Compare(&b)
}

// TooManyExemplars is the error of an answer that is too large.
func TooManyExemplars(limit int) error {
	return errkind.New(errkind.Unprocessable, "cannot answer with more than %d exemplars: narrow the selectors or the time range, or raise -search.maxExemplars", limit)
}
