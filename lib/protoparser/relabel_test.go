package protoparser_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/relabel"
)

// someRules drops, renames and merges series of randomLabels, and gives some to another tenant.
func someRules(t *testing.T) protoparser.Relabeling {
	t.Helper()
	rules, err := relabel.Parse("test", []byte(`
- {action: drop, source_labels: [i], regex: '1.*'}
- {source_labels: [i], regex: '2(.*)', target_label: i, replacement: '3$1'}
- {action: labeldrop, regex: 'many.|long'}
- {if: '{i="4"}', target_label: vm_account_id, replacement: '7'}
- {source_labels: [__name__, i], separator: _, target_label: __name__}
`))
	if err != nil {
		t.Fatal(err)
	}
	return rules.Apply
}

// version returns the rules with a number, which leave it in series and drop another third of them than the ones before.
func version(n int64) protoparser.Relabeling {
	number := strconv.FormatInt(n, 10)
	return func(labels []model.Label) ([]model.Label, bool) {
		for _, l := range labels {
			if i, err := strconv.ParseInt(l.Value, 10, 64); l.Name == "i" && err == nil && i%3 == n%3 {
				return labels, false
			}
		}
		return append(labels, model.Label{Name: "version", Value: number}), true
	}
}

// checkVersion checks that the whole batch is relabelled by one version, and not by one before the given one.
func checkVersion(b *model.Batch, oldest int64) error {
	first := int64(-1)
	for i := range b.Len() {
		_, labels, err := model.ParseSeriesKey(nil, b.Key(i))
		if err != nil {
			return err
		}
		n, series := int64(-1), int64(-1)
		for _, l := range labels {
			switch l.Name {
			case "version":
				n, err = strconv.ParseInt(l.Value, 10, 64)
			case "i":
				series, err = strconv.ParseInt(l.Value, 10, 64)
			}
			if err != nil {
				return err
			}
		}
		if first < 0 {
			first = n
		}
		if n != first || n < oldest || series%3 == n%3 {
			return fmt.Errorf("series %s in a batch of version %d, at version %d", model.LabelsString(labels), first, oldest)
		}
	}
	return nil
}

// TestNewRules changes the rules while requests are stored.
func TestNewRules(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p := newPipeline(4096, nil)
	var now atomic.Int64
	set := func(n int64) {
		p.intake.SetRelabeling(version(n))
		now.Store(n)
	}
	set(1)
	var senders sync.WaitGroup
	for i := range 3 {
		senders.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for n := range 200 {
				if i == 0 && n%5 == 4 {
					set(now.Load() + 1)
				}
				var body strings.Builder
				for range 60 {
					fmt.Fprintf(&body, "m{i=\"%d\"} 1 1\n", rng.IntN(50))
				}
				oldest := now.Load()
				_, err := p.parse[1](&protoparser.Request{Body: bytes.NewReader([]byte(body.String())), Sink: func(b *model.Batch) error { return checkVersion(b, oldest) }})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	senders.Wait()
}

// TestRelabelledNone checks that requests all of whose series are dropped, known or not, store nothing and succeed.
func TestRelabelledNone(t *testing.T) {
	p := newPipeline(4096, nil)
	p.intake.SetRelabeling(func(labels []model.Label) ([]model.Label, bool) { return labels, false })
	for range 3 {
		result, err := p.parse[1](&protoparser.Request{Body: strings.NewReader("a 1\nb{c=\"d\"} 1\n"), Sink: func(*model.Batch) error { return fmt.Errorf("a batch") }})
		if err != nil || result != (protoparser.Result{}) {
			t.Fatal(result, err)
		}
	}
	if n := p.set.Counter("vm_relabel_metrics_dropped_total").Get(); n != 6 {
		t.Errorf("%d series are counted; want 6", n)
	}
}
