package insertapi

import (
	"vmcluster/app/internal/tenantlimits"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// excess is what a request has of series beyond the limits of tenants.
type excess struct {
	rows       int
	histograms int   // of the rows
	refused    error // the first which the sender is to be told
	dropped    error // why the first rows were left out otherwise
}

// settle returns what becomes of the request. What is beyond the limit is not stored; all else is, so that a sender which gives
// a refused request up loses nothing else.
func (e *excess) settle(result protoparser.Result, err error) (protoparser.Result, error) {
	result.Rows -= e.rows
	result.Histograms -= e.histograms
	if err == nil {
		err = e.refused
	}
	if err != nil || e.dropped == nil {
		return result, err
	}
	if result.Dropped += e.rows; result.Reason == "" {
		result.Reason = e.dropped.Error()
	}
	return result, nil
}

// seriesOfTenants are the indexes of the series of a batch by the place of their tenant; without lists all are those of the first.
type seriesOfTenants struct {
	wanted bool // as of before the batch was looked at: limits may change
	lists  [][]uint32
}

// adder returns what adds a series, or nil when nobody wants to know.
func (s *seriesOfTenants) adder() func(series, place int) {
	if !s.wanted {
		return nil
	}
	return func(series, place int) {
		for len(s.lists) <= place {
			s.lists = append(s.lists, nil)
		}
		s.lists[place] = append(s.lists[place], uint32(series))
	}
}

// limitSeries returns the batch without the series which are beyond the limits of their tenants, and takes their rows out of those of the tenants.
// It is another batch than b if something is left out.
func (a *API) limitSeries(b *model.Batch, tenants []tenantRows, of *seriesOfTenants, e *excess) *model.Batch {
	if !of.wanted {
		return b
	}
	var out []bool // of series; nil while none is
	for place := range tenants {
		var list []uint32
		if of.lists != nil {
			list = of.lists[place]
		}
		x := a.limits.AdmitSeries(tenants[place].tenant, b, list)
		if len(x.Series) > 0 && out == nil {
			out = make([]bool, b.Len())
		}
		rows := 0
		for _, i := range x.Series {
			out[i] = true
			rows += b.RowsOf(int(i))
			e.histograms += b.RowsOf(int(i)) - len(b.Samples(int(i)))
		}
		tenants[place].rows -= rows
		a.noteExcess(e, &x, rows)
	}
	if out == nil {
		return b
	}
	kept := make([]uint32, 0, len(out))
	for i, gone := range out {
		if !gone {
			kept = append(kept, uint32(i))
		}
	}
	other := a.batches.Get().(*model.Batch)
	other.AppendSome(b, kept)
	return other
}

func (a *API) noteExcess(e *excess, x *tenantlimits.Excess, rows int) {
	e.rows += rows
	switch {
	case rows == 0:
	case !x.Drop && e.refused == nil:
		e.refused = x.Err
	case x.Drop:
		a.ignored.Add(rows)
		if e.dropped == nil {
			e.dropped = x.Err
		}
	}
}
