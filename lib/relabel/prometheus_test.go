package relabel_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	commonmodel "github.com/prometheus/common/model"
	promlabels "github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v4"

	"vmcluster/lib/model"
	"vmcluster/lib/relabel"
)

// world makes rules and series out of few names, so that they meet.
type world struct{ *rand.Rand }

func (w world) pick(list ...string) string { return list[w.IntN(len(list))] }

func (w world) name() string { return w.pick("__name__", "a", "b", "ab", "c", "__tmp", "A") }

func (w world) value() string {
	return w.pick("", "x", "X", "y", "foo", "foo.bar", "foo_bar", "10.0.0.1:9100", "p\nq", "$1", "é", "x;y", "{{a}}")
}

func (w world) regex() string {
	return w.pick("x", "x|y", "foo.*", "(.*)bar", ".*o.*", "(.+):(\\d+)", "(.)(.*)", "[a-z]+", "(?i)x", "", ".+", "(.*)", "a|__tmp|c", "x;(.*)", "^x$", "(?P<w>foo)(.*)", "p.q", "__.*")
}

func (w world) labels() []model.Label {
	labels := []model.Label{{Name: "__name__", Value: w.pick("foo", "foo_bar", "x")}}
	for _, name := range []string{"A", "__tmp", "a", "ab", "b", "c"} {
		if w.IntN(3) > 0 {
			labels = append(labels, model.Label{Name: name, Value: w.value()})
		}
	}
	w.Shuffle(len(labels), func(i, j int) { labels[i], labels[j] = labels[j], labels[i] })
	return labels
}

func (w world) sources() string {
	names := []string{w.name()}
	for w.IntN(3) == 0 {
		names = append(names, w.name())
	}
	text := "  source_labels: [" + strings.Join(names, ", ") + "]\n"
	if w.IntN(4) == 0 {
		text += "  separator: " + w.pick("''", "_", ".") + "\n"
	}
	return text
}

// rule returns a rule which Prometheus has as well.
func (w world) rule() string {
	quoted := func(field, value string) string { return fmt.Sprintf("  %s: '%s'\n", field, value) }
	text := ""
	switch action := w.pick("replace", "replace", "replace", "keep", "drop", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase", "keepequal", "dropequal"); action {
	case "replace":
		text = w.sources() + quoted("target_label", w.pick("a", "b", "n", "__name__", "n_$1", "${w}n"))
		if w.IntN(3) > 0 {
			text += quoted("regex", w.regex())
		}
		if w.IntN(3) > 0 {
			text += quoted("replacement", w.pick("", "$1", "v", "$2-$1", "${w}x", "$$1", "$1x", "<$0>", "$9", "a$"))
		}
	case "keep", "drop":
		text = quoted("action", action) + w.sources() + quoted("regex", w.regex())
	case "hashmod":
		text = quoted("action", action) + w.sources() + quoted("target_label", w.name()) + fmt.Sprintf("  modulus: %d\n", 1+w.IntN(1000)) + ourHash
	case "labelmap":
		text = quoted("action", action) + quoted("regex", w.pick("(a|b)", "(.+)", "__(.+)__", "(a.*)")) + quoted("replacement", w.pick("n_$1", "${1}_n"))
	case "labeldrop", "labelkeep":
		text = quoted("action", action) + quoted("regex", w.pick("a|b", "a.*", "__name__|b|c", "__.*", "[a-c]+"))
	case "lowercase", "uppercase":
		text = quoted("action", action) + w.sources() + quoted("target_label", w.name())
	default:
		text = quoted("action", action) + "  source_labels: [" + w.name() + "]\n" + quoted("target_label", w.name())
	}
	return "-" + text[1:]
}

// ourHash asks for the hash which is the only one of Prometheus, whose rules cannot say so.
const ourHash = "  hash: md5\n"

// prometheus returns what Prometheus makes of a series.
func prometheus(t *testing.T, rules string, series []model.Label) string {
	var list []*promrelabel.Config
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(rules, ourHash, "")), &list); err != nil {
		t.Fatalf("%s\n%s", err, rules)
	}
	for _, c := range list {
		if err := c.Validate(commonmodel.UTF8Validation); err != nil {
			t.Fatalf("%s\n%s", err, rules)
		}
	}
	var in []promlabels.Label
	for _, l := range series {
		in = append(in, promlabels.Label{Name: l.Name, Value: l.Value})
	}
	b := promlabels.NewBuilder(promlabels.New(in...))
	if !promrelabel.ProcessBuilder(b, list...) {
		return "dropped"
	}
	var out []model.Label
	b.Range(func(l promlabels.Label) {
		if !relabel.IsHidden(l.Name) {
			out = append(out, model.Label{Name: l.Name, Value: l.Value})
		}
	})
	if len(out) == 0 {
		return "dropped"
	}
	return labelsText(out)
}

// TestPrometheus compares random rules over random series with Prometheus.
func TestPrometheus(t *testing.T) {
	seed := rand.Uint64()
	w := world{rand.New(rand.NewPCG(seed, 1))}
	dropped, changed, kept := 0, 0, 0
	for n := 0; n < 20_000 && (n < 800 || min(dropped, changed, kept) < 100); n++ {
		rules := ""
		for range 1 + w.IntN(4) {
			rules += w.rule()
		}
		compiled, err := relabel.Parse("test", []byte(rules))
		if err != nil {
			t.Fatalf("seed %d: %s\n%s", seed, err, rules)
		}
		for range 5 {
			series := w.labels()
			before := labelsText(append([]model.Label{}, series...))
			want, got := prometheus(t, rules, series), "dropped"
			if labels, ok := compiled.Apply(append([]model.Label{}, series...)); ok {
				got = labelsText(labels)
			}
			switch got {
			case "dropped":
				dropped++
			case before:
				kept++
			default:
				changed++
			}
			if got != want {
				t.Fatalf("seed %d: rules\n%sof %s make %s, of Prometheus %s", seed, rules, before, got, want)
			}
		}
	}
	if min(dropped, changed, kept) < 100 {
		t.Errorf("seed %d: %d series were dropped, %d changed and %d kept", seed, dropped, changed, kept)
	}
}
