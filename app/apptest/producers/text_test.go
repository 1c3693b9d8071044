package producers

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/DataDog/datadog-go/v5/statsd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/graphite"
	"github.com/prometheus/client_golang/prometheus/push"
	"github.com/prometheus/common/expfmt"
)

// registry returns metrics of a program as the client library of Prometheus has them, and their values by name and labels besides a prefix.
func registry(t *testing.T) (*prometheus.Registry, map[string]float64) {
	t.Helper()
	r := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "client_requests_total", Help: "What was asked.\nTwice."}, []string{"code", "path"})
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "client_temperature", ConstLabels: prometheus.Labels{"where": "roof"}})
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "client_seconds", Buckets: []float64{0.5, 1, 10}})
	for _, c := range []prometheus.Collector{counter, gauge, histogram} {
		if err := r.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	counter.WithLabelValues("200", "a").Add(3)
	counter.WithLabelValues("404", "b-c").Add(0.125)
	gauge.Set(-1.5e9)
	for _, v := range []float64{0.25, 0.75, 5, 50} {
		histogram.Observe(v)
	}
	return r, map[string]float64{
		"client_requests_total code=200 path=a": 3, "client_requests_total code=404 path=b-c": 0.125, "client_temperature where=roof": -1.5e9,
		"client_seconds_bucket le=0.5": 1, "client_seconds_bucket le=1": 2, "client_seconds_bucket le=10": 3, "client_seconds_bucket le=+Inf": 4,
		"client_seconds_count": 4, "client_seconds_sum": 56,
	}
}

// wantsValues waits until a selector finds one sample of each series, with the values given by name and labels.
func (x *target) wantsValues(selector string, want map[string]float64, more map[string]string) {
	x.t.Helper()
	eventually(x.t, selector, func() error {
		got, err := x.export(selector)
		if err != nil {
			return err
		}
		for key, value := range want {
			labels := map[string]string{}
			for i, word := range strings.Fields(key) {
				if i == 0 {
					labels["__name__"] = word
					continue
				}
				name, v, _ := strings.Cut(word, "=")
				labels[name] = v
			}
			for name, v := range more {
				labels[name] = v
			}
			list := got[series(labels)]
			if len(list) != 1 {
				return fmt.Errorf("%s has the samples %q; stored is %q", series(labels), list, got)
			}
			_, text, _ := strings.Cut(list[0], " ")
			if v, err := strconv.ParseFloat(text, 64); err != nil || v != value {
				return fmt.Errorf("%s is %s, want %v", series(labels), text, value)
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("%d series are stored, want %d: %q", len(got), len(want), got)
		}
		return nil
	})
}

// TestPush pushes metrics as programs do that end before they are scraped.
func TestPush(t *testing.T) {
	t.Parallel()
	each(t, func(x *target) {
		r, want := registry(x.t)
		pusher := push.New(x.path("prometheus", "/api/v1/import/prometheus"), "some-job").Gatherer(r).Grouping("instance", "a/b")
		if err := pusher.Push(); err == nil || !strings.Contains(err.Error(), "expfmt.TypeTextPlain") {
			x.t.Errorf("protobuf, which is not understood, is answered %v", err)
		}
		if err := pusher.Format(expfmt.NewFormat(expfmt.TypeTextPlain)).Push(); err != nil {
			x.t.Error(err)
		}
		x.wantsValues(`{job="some-job"}`, want, map[string]string{"job": "some-job", "instance": "a/b"})
	})
}

// TestGraphite sends metrics by the bridge of Prometheus' client library, with labels as tags and as parts of the path.
func TestGraphite(t *testing.T) {
	t.Parallel()
	each(t, func(x *target) {
		r, want := registry(x.t)
		for _, tags := range []bool{true, false} {
			bridge, err := graphite.NewBridge(&graphite.Config{URL: x.carbon, Gatherer: r, Prefix: fmt.Sprintf("tags-%t", tags), UseTags: tags, Timeout: patience})
			if err != nil {
				x.t.Fatal(err)
			}
			if err := bridge.Push(); err != nil {
				x.t.Error(err)
			}
		}
		tagged, plain := map[string]float64{}, map[string]float64{}
		for key, value := range want {
			tagged["tags-true."+key] = value
			plain["tags-false."+strings.NewReplacer(" ", ".", "=", ".", "0.5", "0_5", "+Inf", "_Inf").Replace(key)] = value
		}
		x.wantsValues(`{__name__=~"tags-true.*"}`, tagged, nil)
		x.wantsValues(`{__name__=~"tags-false.*"}`, plain, nil)
	})
}

// TestStatsd: Datadog's client for statsd sends to the exporter of Prometheus, which Prometheus scrapes, which writes to us.
func TestStatsd(t *testing.T) {
	t.Parallel()
	prom := peer(t, "prometheus")
	each(t, func(x *target) {
		t := x.t
		in, out, web := freeAddr(t), freeAddr(t), freeAddr(t)
		run(t, program(t, "statsd_exporter"), "http://"+out+"/metrics", "--statsd.listen-udp="+in, "--statsd.listen-tcp=", "--web.listen-address="+out)
		client, err := statsd.New(in, statsd.WithoutTelemetry(), statsd.WithNamespace("shop"), statsd.WithTags([]string{"env:prod"}))
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			err1, err2, err3 := client.Count("orders", 3, []string{"kind:book"}, 1), client.Gauge("queue.length", 17.5, nil, 1), client.Distribution("pay.seconds", 0.25, nil, 1)
			if err := errors.Join(err1, err2, err3); err != nil {
				t.Fatal(err)
			}
		}
		if err := client.Close(); err != nil { // sends what is left
			t.Fatal(err)
		}
		config := fmt.Sprintf(`
global: {scrape_interval: 1s}
scrape_configs: [{job_name: bridge, static_configs: [{targets: ["%s"]}]}]
remote_write: [{url: "%s", queue_config: {batch_send_deadline: 1s}}]
`, out, x.path("prometheus", "/api/v1/write"))
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/prometheus.yml", []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, prom, "http://"+web+"/-/ready", "--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/data", "--web.listen-address="+web)
		for query, want := range map[string]string{
			`shop_orders{env="prod",kind="book",job="bridge"}`: "30", `shop_queue_length{env="prod",instance="` + out + `"}`: "17.5",
			`shop_pay_seconds_count{env="prod"}`: "10", `shop_pay_seconds_sum`: "2.5",
		} {
			eventually(t, query, func() error { return x.last(query, want) })
		}
	})
}

// last checks the newest value of the one series of a query.
func (x *target) last(query, want string) error {
	body, err := get(x.read + "/api/v1/query?query=" + url.QueryEscape("last_over_time("+query+"[5m])"))
	if err == nil && (!strings.Contains(string(body), `,"`+want+`"]`) || strings.Count(string(body), `"metric"`) != 1) {
		err = fmt.Errorf("%s; want %s", body, want)
	}
	return err
}
