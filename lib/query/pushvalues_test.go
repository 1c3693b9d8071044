package query

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestPushedValuesDoNotChangeAnswers checks random operators with on(): values of one side that filter the other change nothing but what is read.
func TestPushedValuesDoNotChangeAnswers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	g := &queryGen{rng: rng}
	side := func() string {
		return g.oneOf("x", `x{g="1"}`, `x{i=~"[0-4]"}`, "rate(x[2m])", "sum(x) by (i)", "max(x) by (g)", "max(x{i!='2'}) by (g)", "topk(2, x)", `label_set(x, "g", "1")`, "(x or x{g='2'} offset 1m)", "(x > 20)", "abs(x) * 2",
			"sum(x)", "last_over_time(max(x)[5m:1m])", "(x default x)", "vector(1)", `label_copy(x{i="1"}, "i", "g")`, "x{nope=''} offset 30s", "x{i!=''}", "bare", "bare", "max_over_time(x{g!=''}[3m])", "nothing")
	}
	fewer := 0
	for range 6 {
		m := randomFleet(rng, 30)
		m.add(map[string]string{"__name__": "bare"}, []int64{oracleStart, oracleStart + 500_000}, []float64{1, 2})
		on, off := testEngine(t, m), testEngine(t, m, "-search.maxBinaryOpPushdownLabelValues=0")
		for range 40 {
			op := g.oneOf("+", "/", ">", "== bool", "and", "or", "unless", "if", "ifnot", "default")
			match := g.oneOf("(i)", "(g)", "(i, g)", "(nope)", "(g, nope)", "()", "(__name__, i)")
			tail := ""
			if op == "+" || op == "/" || op == ">" {
				tail = g.oneOf("", "", " group_left ()", " group_right ()", " group_left (i)", " fill(0)", " fill_left(1)", " fill_right(1)")
			}
			query := fmt.Sprintf("%s %s on %s%s %s", side(), op, match, tail, side())
			start := oracleStart + rng.Int64N(600_000)
			want, failure := outcome(off, query, start, start+600_000, 60_000)
			got, now := outcome(on, query, start, start+600_000, 60_000)
			if failure != "" {
				continue // series that clash may have become none
			}
			if now != "" {
				t.Errorf("%s: %s", query, now)
			} else if diff := nearly(pointsOf(want), pointsOf(got)); diff != "" {
				t.Errorf("%s: %s", query, diff)
			}
			if got.SeriesFetched > want.SeriesFetched {
				t.Errorf("%s reads %d series instead of %d", query, got.SeriesFetched, want.SeriesFetched)
			} else if got.SeriesFetched < want.SeriesFetched {
				fewer++
			}
		}
	}
	if fewer == 0 {
		t.Errorf("no query reads less")
	}
}

func TestPushedValuesAreLimited(t *testing.T) {
	m := fleet(60, 20)
	for _, tc := range []struct {
		flag, query string
		want        int // series read
	}{
		{"", `x{g="3"} * on (i) last_over_time(x[1m])`, 6 + 6},
		{"", `last_over_time(x[1m]) if on (i) x{g="3"}`, 6 + 6},
		{"", `x{g="3"} * on (i) group_left () sum(x{i!=""}) by (i)`, 6 + 6},
		{"-search.maxBinaryOpPushdownLabelValues=6", `x{g="3"} * on (i) last_over_time(x[1m])`, 6 + 6},
		{"-search.maxBinaryOpPushdownLabelValues=5", `x{g="3"} * on (i) last_over_time(x[1m])`, 6 + 60},
		{"", `x{g="3"} or on (i) last_over_time(x[1m])`, 6 + 60},
		{"", `x{g="3"} + on (nope) group_left () sum(x{i!=""}) by (nope)`, 6 + 60},
		{"", `x{g="3"} * on (i) fill_left(1) last_over_time(x[1m])`, 60 + 6},
	} {
		e := testEngine(t, m)
		if tc.flag != "" {
			e = testEngine(t, m, tc.flag)
		}
		res, failure := outcome(e, tc.query, oracleStart, oracleStart+minute, minute)
		if failure != "" || res.SeriesFetched != tc.want {
			t.Errorf("%s %s: %d series read, %s; want %d", tc.flag, tc.query, res.SeriesFetched, failure, tc.want)
		}
	}
}

// BenchmarkPushedValues joins the 20 largest of 2000 series with a rate over all of them.
func BenchmarkPushedValues(b *testing.B) {
	m := fleet(2000, 240)
	for _, values := range []int{0, 100} {
		b.Run(fmt.Sprint(values), func(b *testing.B) {
			e := testEngine(b, m, fmt.Sprintf("-search.maxBinaryOpPushdownLabelValues=%d", values))
			for b.Loop() {
				if res, failure := outcome(e, `x{i=~"0000[01]."} * on (i) rate(x[5m])`, oracleStart, oracleStart+3_600_000, 60_000); failure != "" || len(res.Series) != 20 {
					b.Fatal(failure, len(res.Series))
				}
			}
		})
	}
}
