package multitenant

import (
	"context"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// Status implements storageapi.Catalog: sums over the tenants, whose own labels are not counted. A value of a label counts once
// for each tenant that has it.
func (s *Searcher) Status(ctx context.Context, q *storageapi.StatusQuery) (storageapi.Status, error) {
	if !q.Search.AllTenants {
		return s.Stores.Status(ctx, q)
	}
	parts, coverage, err := s.parts(ctx, q.Search.Range, q.Search.Filters)
	if err != nil {
		return storageapi.Status{}, err
	}
	topN := max(q.TopN, storageapi.StatusMargin)
	var out storageapi.Status
	usage := map[string]storageapi.Usage{}
	err = inWaves(parts, func(p *part) (storageapi.Status, error) {
		own := *q
		own.Search, own.TopN = *p.query(&q.Search), topN
		return s.Stores.Status(ctx, &own)
	}, func(answer storageapi.Status) {
		coverage.Merge(answer.Coverage)
		for _, e := range answer.SeriesByMetricName {
			addUsage(usage, e.Name, e.Usage)
		}
		out = storageapi.MergeStatus([]storageapi.Status{out, answer}, topN)
	})
	if err != nil {
		return storageapi.Status{}, err
	}
	if most := q.Search.MaxSeries; most > 0 && out.TotalSeries > uint64(most) {
		return storageapi.Status{}, tooMany("count series", most)
	}
	out = storageapi.MergeStatus([]storageapi.Status{out}, q.TopN)
	for i := range out.SeriesByMetricName {
		e := &out.SeriesByMetricName[i]
		e.Usage = usage[e.Name]
	}
	out.Coverage = coverage
	return out, nil
}

// addUsage adds the usage of a metric by a tenant. Other than stores, tenants are asked by queries of their own.
func addUsage(sums map[string]storageapi.Usage, name string, u storageapi.Usage) {
	sum := sums[name]
	sum.Requests += u.Requests
	sum.LastRequestSecs = max(sum.LastRequestSecs, u.LastRequestSecs)
	sums[name] = sum
}

// DeleteSeries implements storageapi.Catalog. All series are counted before the first one is deleted.
func (s *Searcher) DeleteSeries(ctx context.Context, q *model.SearchQuery) (int, error) {
	if !q.AllTenants {
		return s.Stores.DeleteSeries(ctx, q)
	}
	sets, err := splitSets(q.Filters)
	if err != nil {
		return 0, err
	}
	tenants, err := s.tenants.ask(ctx, allTime()) // those of the last minutes, too
	if err != nil {
		return 0, err
	}
	if tenants.Coverage.Partial {
		return 0, missing("delete series of all tenants", tenants.Coverage)
	}
	parts := partsOf(tenants.Values, sets)
	if q.MaxSeries > 0 && len(parts) > 1 {
		if err := s.checkCount(ctx, q); err != nil {
			return 0, err
		}
	}
	total := 0
	for i := range parts {
		n, err := s.Stores.DeleteSeries(ctx, parts[i].query(q))
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// missing is the error about a list of tenants that may lack some.
func missing(what string, c storageapi.Coverage) error {
	nodes := ""
	for _, f := range c.Failed {
		nodes += "; " + f.Node + ": " + f.Err.Error()
	}
	return errkind.New(errkind.Unavailable, "cannot %s: not all storage nodes say which tenants there are; bring them back and try again%s", what, nodes)
}

// checkCount returns an error if q selects more series than it may.
func (s *Searcher) checkCount(ctx context.Context, q *model.SearchQuery) error {
	all := *q
	all.Range, all.KeysOnly = allTime(), true
	it, err := s.Search(ctx, &all)
	if err != nil {
		return err
	}
	for it.Next() {
	}
	err = it.Err()
	if closeErr := it.Close(); err == nil {
		err = closeErr
	}
	return err
}

// NameStats implements storageapi.Catalog: sums over the tenants. The answer is whole or an error.
func (s *Searcher) NameStats(ctx context.Context, q *storageapi.NameStatsQuery) (storageapi.NameStats, error) {
	if !q.AllTenants {
		return s.Stores.NameStats(ctx, q)
	}
	parts, coverage, err := s.everyone(ctx)
	if err != nil {
		return storageapi.NameStats{}, err
	}
	if coverage.Partial {
		return storageapi.NameStats{}, missing("tell the usage of metrics of all tenants", coverage)
	}
	var out storageapi.NameStats
	usage := map[string]storageapi.Usage{}
	err = inWaves(parts, func(p *part) (storageapi.NameStats, error) {
		return s.Stores.NameStats(ctx, &storageapi.NameStatsQuery{Tenant: p.tenant, MaxRequests: -1, Pattern: q.Pattern})
	}, func(answer storageapi.NameStats) {
		for _, r := range answer.Records {
			addUsage(usage, r.Name, r.Usage)
		}
		out = answer // what is said of counting itself is the same for all
	})
	if err != nil {
		return storageapi.NameStats{}, err
	}
	out.Records, err = q.Select(usage)
	return out, err
}

// Metadata implements storageapi.MetadataReader: what is known to any tenant, in the order of the tenants.
func (s *Searcher) Metadata(ctx context.Context, q *storageapi.MetadataQuery) (storageapi.MetadataList, error) {
	if !q.AllTenants {
		return s.Stores.Metadata(ctx, q)
	}
	parts, coverage, err := s.everyone(ctx)
	if err != nil {
		return storageapi.MetadataList{}, err
	}
	var all []model.Metadata
	err = inWaves(parts, func(p *part) (storageapi.MetadataList, error) {
		own := *q
		own.Tenant, own.AllTenants = p.tenant, false
		return s.Stores.Metadata(ctx, &own)
	}, func(answer storageapi.MetadataList) {
		coverage.Merge(answer.Coverage)
		for _, m := range answer.Items {
			m.Tenant = model.TenantID{} // the same words of two tenants are said once
			all = append(all, m)
		}
		all = storageapi.MergeMetadata(q, all)
	})
	if err != nil {
		return storageapi.MetadataList{}, err
	}
	return storageapi.MetadataList{Items: all, Coverage: coverage}, nil
}
