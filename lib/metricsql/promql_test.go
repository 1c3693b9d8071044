package metricsql

import (
	"testing"

	promparser "github.com/prometheus/prometheus/promql/parser"

	"vmcluster/lib/query/promscript"
)

// promqlCorpus returns the queries of the scripts with which Prometheus tests its engine.
func promqlCorpus(t testing.TB) []string {
	t.Helper()
	var queries []string
	for _, script := range promscript.Scripts(t) {
		for _, c := range script.Commands {
			if c.Eval != nil {
				queries = append(queries, c.Eval.Query)
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
	p := promparser.NewParser(promparser.Options{EnableExperimentalFunctions: true, EnableBinopFillModifiers: true})
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
