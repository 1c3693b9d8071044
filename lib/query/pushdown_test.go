package query

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"vmcluster/lib/metricsql"
	"vmcluster/lib/query/vector"
)

func TestShareFilters(t *testing.T) {
	for query, want := range map[string]string{
		`a{x="1"} + b`:                                `a{x="1"} + b{x="1"}`,
		`a + b{x="1"}`:                                `a{x="1"} + b{x="1"}`,
		`a{x="1"} default b{y="2"}`:                   `a{x="1",y="2"} default b{y="2",x="1"}`,
		`a{x="1"} or b`:                               `a{x="1"} or b`,
		`a unless b{x="1"}`:                           `a unless b{x="1"}`,
		`a{x="1"} unless b`:                           `a{x="1"} unless b{x="1"}`,
		`a{x="1"} + on(y) b`:                          `a{x="1"} + on(y) b`,
		`a{x="1",y="2"} + on(y) b`:                    `a{x="1",y="2"} + on(y) b{y="2"}`,
		`a{x="1",y="2"} + ignoring(y) b`:              `a{x="1",y="2"} + ignoring(y) b{x="1"}`,
		`a{x="1"} + fill_left(0) b`:                   `a{x="1"} + fill_left(0) b`,
		`a{x="1"} + fill_right(0) b`:                  `a{x="1"} + fill_right(0) b{x="1"}`,
		`a{x="1"} + sum(b)`:                           `a{x="1"} + sum(b)`,
		`a{x="1"} + sum(b) by (x)`:                    `a{x="1"} + sum(b{x="1"}) by (x)`,
		`a{x="1"} + sum(b) without (x)`:               `a{x="1"} + sum(b) without (x)`,
		`a{x="1"} + topk(1, b)`:                       `a{x="1"} + topk(1, b)`,
		`a{x="1"} + rate(b[5m] offset 1m)`:            `a{x="1"} + rate(b{x="1"}[5m] offset 1m)`,
		`a{x="1"} + absent_over_time(b)`:              `a{x="1"} + absent_over_time(b)`,
		`a{x="1"} + label_set(b, "x", "1")`:           `a{x="1"} + label_set(b, "x", "1")`,
		`a{x="1"} + (b + c)`:                          `a{x="1"} + (b{x="1"} + c{x="1"})`,
		`a{x="1"} + (b + sum(c) by (y))`:              `a{x="1"} + (b{x="1"} + sum(c) by (y))`,
		`a{x="1" or y="2"} + b`:                       `a{x="1" or y="2"} + b`,
		`a{x="1",y="2" or x="1"} + b`:                 `a{x="1",y="2" or x="1"} + b{x="1"}`,
		`a{x="1"} + {}`:                               `a{x="1"} + {}`,
		`a{x="1"} * on(y) group_left(x) b + c`:        `a{x="1"} * on(y) group_left(x) b + c`,
		`c{x="1"} + (a * on(y) group_left(x) b)`:      `c{x="1"} + (a * on(y) group_left(x) b)`,
		`c{x="1",y="2"} + (a * on(y) group_left() b)`: `c{x="1",y="2"} + (a{x="1",y="2"} * on(y) group_left() b{y="2"})`,
	} {
		expr, err := metricsql.Parse(query)
		if err != nil {
			t.Fatalf("%s: %s", query, err)
		}
		wanted, err := metricsql.Parse(want)
		if err != nil {
			t.Fatalf("%s: %s", want, err)
		}
		before := metricsql.String(expr)
		if got := metricsql.String(shareFilters(expr)); got != metricsql.String(wanted) {
			t.Errorf("%s\n got %s\nwant %s", query, got, metricsql.String(wanted))
		}
		if metricsql.String(expr) != before {
			t.Errorf("%s was changed in place", query)
		}
	}
}

// TestShareFiltersIsBounded checks that a query made to be expensive is left as it is.
func TestShareFiltersIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(`a{x="0"}`)
	for i := range 1500 {
		fmt.Fprintf(&b, `+a{x="%d"}`, i)
	}
	expr, err := metricsql.Parse(b.String())
	if err != nil {
		t.Fatal(err)
	}
	if got := metricsql.String(shareFilters(expr)); len(got) > 2*b.Len() {
		t.Errorf("%d bytes of query become %d", b.Len(), len(got))
	}
}

// Sharing filters saves reading; it must not change answers.
func TestSharedFiltersDoNotChangeAnswers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	e := testEngine(t, randomFleet(rand.New(rand.NewPCG(seed, 0)), 20))
	for _, query := range []string{
		`x{g="1"} - x`, `x + x{i=~"1."}`, `sum(x{g!="2"}) by (g) / count(x) by (g)`, `x{g="0"} unless x{i="3"}`, `x and on(g) x{g="1",i="4"}`,
		`rate(x{g="1"}[5m]) * on(i) group_left() x`, `x{g="1"} + fill(0) x{i=~"1."}`, `x > bool x{g="2"}`, `(x{g="1"} or x) + x{i!="7"}`,
		`x{g="1"} ifnot x{i="4"}`, `max_over_time(x{g="1"}[5m:1m]) - min_over_time((x + x{i=~"1."})[5m:1m])`,
	} {
		expr, err := metricsql.Parse(query)
		if err != nil {
			t.Fatal(err)
		}
		r := &Request{Query: query}
		g := vector.Grid{Start: oracleStart + 300000, End: oracleStart + 1200000, Step: 30000}
		var answers []string
		for _, tree := range []metricsql.Expr{expr, shareFilters(expr)} {
			ev := e.newEvaluation(context.Background(), r, tree, g.Step)
			res, err := ev.result(tree, g, Matrix)
			ev.release()
			if err != nil {
				t.Fatalf("%s: %s", metricsql.String(tree), err)
			}
			answers = append(answers, res.String())
		}
		if answers[0] != answers[1] || answers[0] == "" {
			t.Errorf("%s\nwithout %s\nwith    %s", query, answers[0], answers[1])
		}
	}
}
