package graphite

import (
	"context"
	"fmt"
	"testing"
	"time"

	"vmcluster/lib/memory"
)

// gridSource answers all series to every query.
type gridSource struct {
	series []*Series
}

func (g *gridSource) Fetch(_ context.Context, q *Query) ([]*Series, error) {
	out := make([]*Series, len(g.series))
	for i, s := range g.series {
		first := max(0, (q.Start-s.Start)/s.Step)
		timestamps := make([]int64, len(s.Values))
		for k := range timestamps {
			timestamps[k] = s.At(k)
		}
		grid, err := q.Grid(timestamps[first:], s.Values[first:])
		if err != nil {
			return nil, err
		}
		out[i] = &Series{Name: s.Name, Tags: s.Tags, Start: q.Start, Step: q.Step, Values: grid}
	}
	return out, nil
}

// BenchmarkRender evaluates targets over a thousand series of an hour at 10 seconds.
func BenchmarkRender(b *testing.B) {
	const n, points = 1000, 360
	source := &gridSource{}
	for i := range n {
		s := &Series{Name: fmt.Sprintf("servers.web%d.cpu", i), Tags: map[string]string{"name": fmt.Sprintf("servers.web%d.cpu", i)}, Step: 10_000}
		for k := range points {
			s.Values = append(s.Values, float64(i+k))
		}
		source.series = append(source.series, s)
	}
	engine := New()
	req := Request{Until: points * 10_000, Step: 10_000, Now: time.Unix(points*10, 0)}
	for _, target := range []string{
		"servers.*.cpu", "sumSeries(servers.*.cpu)", "aliasByNode(servers.*.cpu,1)", "scale(perSecond(servers.*.cpu),8)", "groupByNode(servers.*.cpu,-1,'median')",
		"movingAverage(servers.*.cpu,30)", "asPercent(servers.*.cpu)", "highestMax(servers.*.cpu,5)", "summarize(servers.*.cpu,'5min','max')",
	} {
		b.Run(target, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				run := engine.NewRun(source, req, Limits{Budget: memory.NewBudget(1 << 30)})
				if _, err := run.Render(context.Background(), target); err != nil {
					b.Fatal(err)
				}
				run.Close()
			}
		})
	}
}
