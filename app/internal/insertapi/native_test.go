package insertapi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"vmcluster/lib/insertrpc"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
)

// newNative returns a server of the API with what takes rows of a higher level, and a client which sends them there, as vminsert does.
func newNative(t *testing.T, args ...string) (*server, storageapi.Ingester) {
	t.Helper()
	s := newServer(t, Cluster, args...)
	n := NewNative(s.API, s.set)
	network := transport.NewMemoryNetwork()
	ln, err := network.Listen("below:8400")
	if err != nil {
		t.Fatal(err)
	}
	server := insertrpc.NewServer(insertrpc.ServerOptions{Ingester: n, Metadata: n})
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	client := insertrpc.NewClient(insertrpc.ClientOptions{Addr: "below:8400", Dial: network.Dial})
	t.Cleanup(func() {
		_ = client.Close() // nothing is under way
		server.Close()
		<-done
	})
	return s, client
}

// TestNative sends rows of several tenants, some of which the limits do not allow, again and again.
func TestNative(t *testing.T) {
	for _, naming := range []bool{false, true} { // with it all labels are looked at
		s, client := newNative(t, "-maxLabelsPerTimeseries=3", fmt.Sprintf("-usePromCompatibleNaming=%t", naming))
		const rounds = 5
		for round := range int64(rounds) {
			var b model.Batch
			add := func(account uint32, samples int, labels ...model.Label) {
				if err := b.AddSeries(model.TenantID{AccountID: account}, append([]model.Label{{Name: model.MetricNameLabel, Value: "m.x"}}, labels...)); err != nil {
					t.Fatal(err)
				}
				for k := range samples {
					b.AddSample(1000*round+int64(k), 1)
				}
			}
			add(1, 2)
			add(1, 3, model.Label{Name: "a", Value: "1"}, model.Label{Name: "b", Value: "1"}, model.Label{Name: "c", Value: "1"}) // one too many
			add(2, 1, model.Label{Name: "a.b", Value: "1"})
			if err := client.Ingest(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
		}
		metric, label := "m.x", "a.b"
		if naming {
			metric, label = "m_x", "a_b"
		}
		got := strings.Join(s.take(), "\n")
		for _, text := range []string{"tenant 1:0", "tenant 2:0", metric, label} {
			if !strings.Contains(got, text) {
				t.Errorf("naming %t: %q is not in\n%s", naming, text, got)
			}
		}
		if strings.Contains(got, "c=") || naming && strings.Contains(got, "m.x") {
			t.Errorf("naming %t: got\n%s", naming, got)
		}
		for name, want := range map[string]int{
			`vm_rows_inserted_total{type="clusternative"}`:                                    3,
			`vm_rows_ignored_total{reason="too_many_labels"}`:                                 3,
			`vm_tenant_inserted_rows_total{type="clusternative",accountID="1",projectID="0"}`: 2,
			`vm_tenant_inserted_rows_total{type="clusternative",accountID="2",projectID="0"}`: 1,
		} {
			if got := s.metric(t, name); got != fmt.Sprint(rounds*want) {
				t.Errorf("naming %t: %s is %s; want %d", naming, name, got, rounds*want)
			}
		}
		s.err = errors.New("no room")
		var b model.Batch
		if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: "m"}}); err != nil {
			t.Fatal(err)
		}
		b.AddSample(1, 1)
		if err := client.Ingest(t.Context(), &b); err == nil {
			t.Errorf("naming %t: a batch which is not stored is acknowledged", naming)
		}
	}
}

// TestNativeRandom compares what arrives of random batches with what was sent.
func TestNativeRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s, client := newNative(t, "-maxLabelValueLen=4")
	sent := 0
	for range 50 {
		var b model.Batch
		for range rng.IntN(30) {
			value := fmt.Sprint(rng.IntN(20_000))
			if err := b.AddSeries(model.TenantID{AccountID: uint32(rng.IntN(3))}, []model.Label{{Name: model.MetricNameLabel, Value: "m"}, {Name: "x", Value: value}}); err != nil {
				t.Fatal(err)
			}
			n := 1 + rng.IntN(3)
			for k := range n {
				if k == 0 && rng.IntN(4) == 0 {
					b.AddHistogram(int64(k), new(nativehistogram.Histogram).Append(nil))
					continue
				}
				b.AddSample(int64(k), 1)
			}
			if len(value) <= 4 {
				sent += n
			}
		}
		if err := client.Ingest(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(s.take()); got != sent {
		t.Errorf("%d rows arrive; want %d", got, sent)
	}
}

// TestNativeRelabelled: the rules of the lower level hold for what comes from above, from the batch after they were set to the one before they are taken away.
func TestNativeRelabelled(t *testing.T) {
	s, client := newNative(t)
	send := func() string {
		var b model.Batch
		for _, x := range []string{"keep", "drop"} {
			if err := b.AddSeries(model.TenantID{AccountID: 7}, []model.Label{{Name: model.MetricNameLabel, Value: "m"}, {Name: "x", Value: x}}); err != nil {
				t.Fatal(err)
			}
			b.AddSample(1, 1)
			b.AddHistogram(2, new(nativehistogram.Histogram).Append(nil))
		}
		if err := client.Ingest(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		return strings.Join(s.take(), "\n")
	}
	plain := send()
	s.intake.SetRelabeling(func(labels []model.Label) ([]model.Label, bool) {
		for _, l := range labels {
			if l.Value == "drop" {
				return labels, false
			}
		}
		return append(labels, model.Label{Name: "level", Value: "low"}), true
	})
	for range 2 {
		if got := send(); strings.Count(got, "low") != 2 || strings.Contains(got, "drop") || !strings.Contains(got, "tenant 7:0") {
			t.Errorf("with rules: %s", got)
		}
	}
	if got := s.metric(t, "vm_relabel_metrics_dropped_total"); got != "4" { // once with their samples, once with their histograms
		t.Errorf("%s series are counted as dropped; want 4", got)
	}
	s.intake.SetRelabeling(nil)
	if got := send(); got != plain {
		t.Errorf("without rules again: %s; want %s", got, plain)
	}
}

func TestNativeMetadata(t *testing.T) {
	list := []model.Metadata{{Tenant: model.TenantID{AccountID: 7}, Metric: "a.b", Type: 1, Help: "what it is"}}
	for _, tc := range []struct {
		args, want string
	}{{"-enableMetadata=true", "a.b"}, {"-usePromCompatibleNaming", "a_b"}, {"-enableMetadata=false", ""}} {
		s := newServer(t, Cluster, tc.args)
		d := &describer{}
		if s.API.metadata = d; tc.want == "" {
			s.API.metadata = nil
		}
		n := NewNative(s.API, s.set)
		if err := n.AddMetadata(context.Background(), list); err != nil {
			t.Fatal(err)
		}
		if tc.want == "" && len(d.got) != 0 || tc.want != "" && (len(d.got) != 1 || d.got[0].Metric != tc.want || d.got[0].Tenant.AccountID != 7) {
			t.Errorf("%s: got %+v", tc.args, d.got)
		}
	}
}
