package query

import (
	"vmcluster/lib/errkind"
	"vmcluster/lib/query/vector"
)

const (
	defaultStep     = 5 * 60 * 1000
	alignFromPoints = 50 // range queries with fewer points are cheap enough to be evaluated as asked
)

// rangeGrid returns the evaluation times of a range query.
func (e *Engine) rangeGrid(r *Request) (vector.Grid, error) {
	g := vector.Grid{Start: r.Start, End: r.End, Step: r.Step}
	if g.Step == 0 {
		g.Step = defaultStep
	}
	if g.Step < 0 {
		return g, errkind.New(errkind.BadRequest, "cannot use step %dms: it must be positive", g.Step)
	}
	if g.Start > g.End {
		g.End = g.Start + defaultStep
	}
	if g.Start < -farthest || g.End > farthest || g.Step > farthest {
		return g, errkind.New(errkind.BadRequest, "cannot use start=%d, end=%d and step=%d: at most %dms from 1970 are supported", g.Start, g.End, g.Step, farthest)
	}
	points := (g.End-g.Start)/g.Step + 1
	if limit := int64(e.cfg.MaxPointsPerSeries); limit > 0 && points > limit {
		return g, errkind.New(errkind.Unprocessable,
			"too many points for the given start=%d, end=%d and step=%d: %d; the maximum number of points is %d; raise the step or -search.maxPointsPerTimeseries",
			g.Start, g.End, g.Step, points, limit)
	}
	if !r.NoCache && !e.cfg.DisableCache {
		g = align(g)
	}
	return g, nil
}

// align moves the range to multiples of the step and keeps the number of points, so that a
// dashboard which refreshes asks for the same times again.
func align(g vector.Grid) vector.Grid {
	points := (g.End-g.Start)/g.Step + 1
	if points < alignFromPoints {
		return g
	}
	g.Start = floorTo(g.Start, g.Step)
	g.End = ceilTo(g.End, g.Step)
	for (g.End-g.Start)/g.Step+1 > points {
		g.End -= g.Step
	}
	return g
}

// floorTo returns the largest multiple of step that is at most t.
func floorTo(t, step int64) int64 {
	if m := t % step; m < 0 {
		return t - m - step
	} else {
		return t - m
	}
}

// ceilTo returns the smallest multiple of step that is at least t.
func ceilTo(t, step int64) int64 {
	if floor := floorTo(t, step); floor < t {
		return floor + step
	}
	return t
}

// holdBack overwrites points for which samples may still be on their way by the point before.
func holdBack(series []ResultSeries, g vector.Grid, now, offset int64) {
	for i := range series {
		s := &series[i]
		n := len(s.Timestamps)
		if n == 0 || s.Timestamps[n-1] > now+g.Step {
			continue
		}
		for k := 1; k < n; k++ {
			if s.Timestamps[k] > now-offset {
				s.Values[k] = s.Values[k-1]
			}
		}
	}
}
