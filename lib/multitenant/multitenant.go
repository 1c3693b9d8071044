package multitenant

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"vmcluster/lib/fragment"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// Stores answer questions about one tenant.
type Stores interface {
	storageapi.Searcher
	storageapi.Catalog
	storageapi.Reducer
	storageapi.MetadataReader
	storageapi.ExemplarReader
}

// Options are the arguments of New.
type Options struct {
	Stores  Stores
	Config  *Config
	Metrics *metrics.Set
	Now     func() time.Time
}

// Searcher answers questions about all tenants, and passes those about one on. It is safe for concurrent use and needs no Close.
type Searcher struct {
	Stores
	tenants *tenantLists
}

var _ Stores = (*Searcher)(nil)

// New returns a Searcher.
func New(o Options) *Searcher {
	return &Searcher{Stores: o.Stores, tenants: newTenantLists(&o)}
}

// concurrency is how many tenants are asked for at a time. Each question takes a place among the requests that a storage node
// serves at once.
const concurrency = 4

// inWaves asks for some tenants at a time and hands the answers on in the order of the tenants.
func inWaves[T any](parts []part, ask func(p *part) (T, error), take func(answer T)) error {
	for wave := range slices.Chunk(parts, concurrency) {
		answers, errs := make([]T, len(wave)), make([]error, len(wave))
		var wg sync.WaitGroup
		for i := range wave {
			wg.Go(func() { answers[i], errs[i] = ask(&wave[i]) })
		}
		wg.Wait()
		for i := range wave {
			if errs[i] != nil {
				return errs[i]
			}
			take(answers[i])
		}
	}
	return nil
}

// LabelNames implements storageapi.Searcher. Where there are series, the labels of their tenants are among the names.
func (s *Searcher) LabelNames(ctx context.Context, q *model.SearchQuery, limit int) (storageapi.Strings, error) {
	if !q.AllTenants {
		return s.Stores.LabelNames(ctx, q, limit)
	}
	return s.strings(ctx, q, limit, func(p *part) (storageapi.Strings, error) {
		names, err := s.Stores.LabelNames(ctx, p.query(q), limit)
		if len(names.Values) > 0 {
			names.Values = append(slices.Clip(names.Values), model.AccountLabel, model.ProjectLabel)
		}
		return names, err
	})
}

// LabelValues implements storageapi.Searcher.
func (s *Searcher) LabelValues(ctx context.Context, q *model.SearchQuery, label string, limit int) (storageapi.Strings, error) {
	if !q.AllTenants {
		return s.Stores.LabelValues(ctx, q, label, limit)
	}
	return s.strings(ctx, q, limit, func(p *part) (storageapi.Strings, error) {
		own := p.account
		switch label {
		case model.AccountLabel:
		case model.ProjectLabel:
			own = p.project
		default:
			return s.Stores.LabelValues(ctx, p.query(q), label, limit)
		}
		// All series of the tenant have it. Is there one?
		names, err := s.Stores.LabelNames(ctx, p.query(q), 1)
		if len(names.Values) > 0 {
			names.Values = []string{own}
		}
		return names, err
	})
}

// strings returns the union of what the tenants have.
func (s *Searcher) strings(ctx context.Context, q *model.SearchQuery, limit int, ask func(p *part) (storageapi.Strings, error)) (storageapi.Strings, error) {
	parts, coverage, err := s.parts(ctx, q.Range, q.Filters)
	if err != nil {
		return storageapi.Strings{}, err
	}
	found := map[string]struct{}{}
	err = inWaves(parts, ask, func(answer storageapi.Strings) {
		coverage.Merge(answer.Coverage)
		for _, text := range answer.Values {
			found[text] = struct{}{}
		}
	})
	if err != nil {
		return storageapi.Strings{}, err
	}
	values := slices.Sorted(maps.Keys(found))
	if limit > 0 && len(values) > limit {
		values = values[:limit]
	}
	return storageapi.Strings{Values: values, Coverage: coverage}, nil
}

// Reduce implements storageapi.Reducer. The series of all tenants have to be read: stores aggregate by the labels which they know.
func (s *Searcher) Reduce(ctx context.Context, f *fragment.Fragment) (storageapi.Reduction, error) {
	if f.Search.AllTenants {
		return storageapi.Reduction{Declined: "stores do not know the labels of tenants"}, nil
	}
	return s.Stores.Reduce(ctx, f)
}
