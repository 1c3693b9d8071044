package clustertest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"vmcluster/lib/model"
	"vmcluster/lib/query"
)

// remove deletes series in the background. What was acknowledged is gone from all nodes that were asked.
func (w *chaos) remove(s *chaosSelect) {
	q := model.SearchQuery{Tenant: w.tenants[w.rng.IntN(len(w.tenants))], Range: w.everything(), AllTenants: w.rng.IntN(4) == 0}
	f := model.TagFilter{Name: "i", Value: fmt.Sprint(w.rng.IntN(len(w.feed.series)))}
	if w.rng.IntN(3) == 0 {
		f = model.TagFilter{Name: "group", Value: fmt.Sprint(w.rng.IntN(5))}
	}
	q.Filters = [][]model.TagFilter{{f}}
	w.tally["deletions"]++
	number, patience, since := w.tally["deletions"], time.Duration(1+w.rng.IntN(40))*time.Second, w.book.now()
	w.note("deletion %d at %s: %s (all: %t) %v", number, s.host, q.Tenant, q.AllTenants, q.Filters)
	known := len(s.since(1))
	w.background(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err := s.everyone.DeleteSeries(ctx, &q)
		cancel()
		w.note("deletion %d at %s: %v", number, s.host, err)
		if err != nil {
			if badAnswer(err) {
				w.failf("deletion %d is refused: %s", number, err)
			}
			return
		}
		w.answered("deletions acknowledged")
		lists := s.since(known)
		asked := slices.DeleteFunc(slices.Clone(lists[0]), func(n int) bool {
			return slices.ContainsFunc(lists, func(list []int) bool { return !slices.Contains(list, n) })
		})
		for _, tenant := range w.tenants {
			if left := w.book.undeleted(&q, tenant, since, asked); len(left) > 0 && (tenant == q.Tenant && !q.AllTenants || q.AllTenants && len(left) < len(asked)) {
				w.failf("deletion %d was acknowledged; nodes %v of %v have not made it", number, left, asked)
			}
		}
	})
	w.settleDown()
}

// mute lets nodes tell versions and give no samples, and asks a reader with a cache before, meanwhile and afterwards.
func (w *chaos) mute() {
	w.ops.Wait()
	s, tenant := w.reader(), w.tenants[0]
	if w.place.enough(s.listed, func(n int) bool { return !w.nodes[n].up }) {
		return // answers are partial anyway, or errors
	}
	w.count("mute nodes")
	ask := func() {
		r := w.request(dashboards()[w.seed%3])
		r.Tenant, r.Start, r.Step = tenant, r.End-36*60_000, 30_000
		w.evaluateNow(s, r)
	}
	ask()
	w.pass(time.Duration(w.rng.IntN(3)) * time.Minute)
	for k, i := range w.rng.Perm(len(s.listed)) {
		n := w.nodes[s.listed[i]]
		n.mute.Store(k == 0 || w.rng.IntN(2) == 0)
		w.note("%s gives no samples: %t", n.host, n.mute.Load())
	}
	ask()
	for _, n := range w.nodes {
		n.mute.Store(false)
	}
	w.note("all give samples")
	ask()
}

// evaluateNow asks a reader with a cache, twice: what is asked for the second time is kept.
func (w *chaos) evaluateNow(s *chaosSelect, r query.Request) {
	for range 2 {
		w.compareEvaluated(s, s.ask(model.SearchQuery{Tenant: r.Tenant}), r, true)
	}
}

// tenantless takes the labels of tenants out of the keys of an answer for all tenants, as the model has them.
func tenantless(got found) (found, error) {
	out := found{}
	for key, samples := range got {
		_, labels, err := model.ParseSeriesKey(nil, []byte(key))
		if err != nil {
			return nil, err
		}
		var tenant model.TenantID
		labels = slices.DeleteFunc(labels, func(l model.Label) bool {
			switch l.Name {
			case model.AccountLabel:
				_, err = fmt.Sscan(l.Value, &tenant.AccountID)
			case model.ProjectLabel:
				_, err = fmt.Sscan(l.Value, &tenant.ProjectID)
			default:
				return false
			}
			return true
		})
		if err != nil {
			return nil, err
		}
		own, err := model.AppendSeriesKey(nil, tenant, labels)
		if err != nil {
			return nil, err
		}
		if out[string(own)] != nil {
			return nil, fmt.Errorf("series %s twice", model.SeriesKeyString(own))
		}
		out[string(own)] = samples
	}
	return out, nil
}
