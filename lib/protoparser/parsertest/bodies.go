package parsertest

import (
	"fmt"
	"strings"

	"github.com/golang/snappy"

	"vmcluster/lib/model"
	"vmcluster/lib/prompb"
)

// Body is a request of many series, as senders write them, for tests and benchmarks of what parsers cost.
type Body struct {
	Format   string // of the parser
	Argument string // of CSV imports: what the columns are
	Encoding string
	Text     string
	Rows     int
}

// Labels returns the labels of series i, sorted, with the name of the metric first.
func Labels(i int) []model.Label {
	return []model.Label{
		{Name: model.MetricNameLabel, Value: "node_cpu_seconds_total"}, {Name: "cluster", Value: "production-eu"}, {Name: "cpu", Value: fmt.Sprint(i % 64)}, {Name: "env", Value: "prod"},
		{Name: "instance", Value: fmt.Sprintf("10.0.%d.%d:9100", i/2000%250, i/8%250)}, {Name: "job", Value: "node-exporter"},
		{Name: "mode", Value: [...]string{"idle", "user", "system", "iowait", "irq", "nice", "softirq", "steal"}[i%8]},
	}
}

// Time and Value return what the sample of series i is.
func Time(i int) int64    { return 1717200000000 + int64(i%1000) }
func Value(i int) float64 { return float64(i*31) + 0.25 }

// Bodies returns a request of n series in each text format, and in that of remote write 1.0.
func Bodies(n int) []Body {
	var texts [6]strings.Builder
	var v1 []byte
	csv := strings.Builder{}
	for i := range n {
		l := Labels(i)
		at, v := Time(i), Value(i)
		join := func(format, separator string) string {
			var list []string
			for _, l := range l[1:] {
				list = append(list, fmt.Sprintf(format, l.Name, l.Value))
			}
			return strings.Join(list, separator)
		}
		name := l[0].Value
		fmt.Fprintf(&texts[0], "%s{%s} %v %d\n", name, join("%s=%q", ","), v, at)
		fmt.Fprintf(&texts[1], "%s,%s value=%v %d000000\n", name, join("%s=%s", ","), v, at)
		fmt.Fprintf(&texts[2], "%s;%s %v %d\n", name, join("%s=%s", ";"), v, at/1000)
		fmt.Fprintf(&texts[3], "put %s %d %v %s\n", name, at, v, join("%s=%s", " "))
		fmt.Fprintf(&texts[4], "%c{\"metric\":%q,\"timestamp\":%d,\"value\":%v,\"tags\":{%s}}", "[,"[min(i, 1)], name, at, v, join("%q:%q", ","))
		fmt.Fprintf(&texts[5], "{\"metric\":{\"__name__\":%q,%s},\"values\":[%v],\"timestamps\":[%d]}\n", name, join("%q:%q", ","), v, at)
		fmt.Fprintf(&csv, "%s,%s,%v,%d\n", l[4].Value, l[6].Value, v, at)
		v1 = prompb.AppendTimeSeries(v1, &prompb.TimeSeries[model.Label]{Labels: l, Samples: []prompb.Sample{{Timestamp: at, Value: v}}})
	}
	texts[4].WriteByte(']')
	bodies := []Body{
		{Format: "prometheus", Text: texts[0].String()}, {Format: "influx", Text: texts[1].String()}, {Format: "graphite", Text: texts[2].String()}, {Format: "opentsdb", Text: texts[3].String()},
		{Format: "opentsdbhttp", Text: texts[4].String()}, {Format: "vmimport", Text: texts[5].String()},
		{Format: "csvimport", Text: csv.String(), Argument: "1:label:instance,2:label:mode,3:metric:node_cpu_seconds_total,4:time:unix_ms"},
		{Format: "promremotewrite", Text: string(snappy.Encode(nil, v1)), Encoding: "snappy"},
	}
	for i := range bodies {
		bodies[i].Rows = n
	}
	return bodies
}
