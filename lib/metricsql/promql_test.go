package metricsql

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	promparser "github.com/prometheus/prometheus/promql/parser"
)

// promqlCorpus returns the queries of the scripts with which Prometheus tests its engine.
func promqlCorpus(t testing.TB) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Skipf("cannot find the module of Prometheus, so its queries are not tried: %s", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "promql/promqltest/testdata/*.test"))
	if err != nil || len(files) == 0 {
		t.Skipf("cannot find test scripts in the module of Prometheus (%v), so its queries are not tried", err)
	}
	instant := regexp.MustCompile(`^eval(?:_\w+)?\s+instant\s+at\s+\S+\s+(.*)$`)
	ranged := regexp.MustCompile(`^eval(?:_\w+)?\s+range\s+from\s+\S+\s+to\s+\S+\s+step\s+\S+\s+(.*)$`)
	var queries []string
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			for _, re := range []*regexp.Regexp{instant, ranged} {
				if m := re.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
					queries = append(queries, m[1])
				}
			}
		}
	}
	return queries
}

// otherLanguage reports whether the query uses what MetricsQL does not have: functions on native
// histograms and newer functions of PromQL. Octal digits after a leading zero differ on purpose.
func otherLanguage(e promparser.Expr) bool {
	found := false
	promparser.Inspect(e, func(n promparser.Node, _ []promparser.Node) error {
		switch n := n.(type) {
		case *promparser.Call:
			found = found || FunctionKind(n.Func.Name) == KindUnknown
		case *promparser.AggregateExpr:
			found = found || !IsAggregate(n.Op.String())
		case *promparser.BinaryExpr:
			found = found || precedence(n.Op.String()) == 0
		}
		return nil
	})
	return found
}

func TestPromQLIsAccepted(t *testing.T) {
	tried, skipped := 0, 0
	p := promparser.NewParser(promparser.Options{})
	for _, q := range promqlCorpus(t) {
		e, err := p.ParseExpr(q)
		if err != nil {
			continue
		}
		if otherLanguage(e) {
			skipped++
			continue
		}
		tried++
		checkFixpoint(t, q)
		checkFixpoint(t, e.String())
	}
	t.Logf("%d queries tried, %d skipped", tried, skipped)
	if tried < 500 {
		t.Errorf("%d queries tried; want at least 500", tried)
	}
}
