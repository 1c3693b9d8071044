package query

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
)

// Properties are checked with random queries over random series. A failure names the seed, which repeats it; with
// minutes each property is checked for that long.
const (
	seedVariable    = "VMCLUSTER_QUERY_SEED"
	minutesVariable = "VMCLUSTER_QUERY_MINUTES"
)

// eachRound checks a property so many times, or with the seed or as long as the environment says. It returns how many times it was.
func eachRound(t *testing.T, rounds int, round func(rng *rand.Rand)) (done int) {
	t.Helper()
	run := func(seed uint64) {
		t.Logf("%s=%d repeats this round", seedVariable, seed)
		if round(rand.New(rand.NewPCG(seed, 0))); t.Failed() {
			t.FailNow()
		}
	}
	if text := os.Getenv(seedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("bad %s: %s", seedVariable, err)
		}
		run(seed)
		return 1
	}
	limit := time.Duration(0)
	if text := os.Getenv(minutesVariable); text != "" {
		minutes, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("bad %s: %s", minutesVariable, err)
		}
		limit = time.Duration(minutes * float64(time.Minute))
	}
	if testing.Short() {
		rounds = max(1, rounds/4)
	}
	for start := time.Now(); done < rounds || time.Since(start) < limit; done++ {
		run(rand.Uint64())
	}
	return done
}

// rangeSetting is a kind of series, and what the rules know of it.
type rangeSetting struct {
	name  string
	rules rangeRules
	flags []string
	fleet func(rng *rand.Rand) *memSource
}

func rangeSettings() []rangeSetting {
	few := func(rng *rand.Rand) *memSource { return randomFleet(rng, 7+rng.IntN(20)) }
	return []rangeSetting{
		{"regular", rangeRules{interval: 10_000, longest: 10_000}, nil, regularFleet},
		{"irregular", rangeRules{longest: 30_000}, nil, few},
		{"irregular with a floor", rangeRules{longest: 30_000, floor: 120_000}, []string{"-search.minStalenessInterval=2m"}, few},
		{"irregular with a lookback", rangeRules{longest: 30_000, lookback: 5000}, []string{"-search.maxLookback=5s"}, few},
	}
}

// regularFleet has samples each 10 seconds long before and after the times which are asked for.
func regularFleet(rng *rand.Rand) *memSource {
	m := newMemSource()
	const n = 5 * 360
	for i := range 5 + rng.IntN(15) {
		times, values := make([]int64, n), make([]float64, n)
		first, most := oracleStart-2*3600_000+rng.Int64N(10_000), 1+rng.IntN(50)
		for k := range times {
			times[k], values[k] = first+int64(k)*10_000, float64(rng.IntN(most))
		}
		m.add(map[string]string{"__name__": "x", "i": fmt.Sprint(i), "g": fmt.Sprint(i % 3)}, times, values)
	}
	return m
}

// TestPropertyRanges checks that a point does not depend on the range that is asked for, and that an instant query is a
// point of a range, wherever the rules say so.
func TestPropertyRanges(t *testing.T) {
	for _, setting := range rangeSettings() {
		t.Run(setting.name, func(t *testing.T) {
			tally := map[string]int{}
			rounds := eachRound(t, 5, func(rng *rand.Rand) {
				g := &queryGen{rng: rng}
				e := testEngine(t, setting.fleet(rng), setting.flags...)
				for range 80 {
					c := newRangeCase(g, rng)
					c.check(t, e, setting.rules, tally)
				}
			})
			for _, what := range slices.Sorted(maps.Keys(tally)) {
				t.Logf("%6d %s", tally[what], what)
			}
			if tally["ranges"] < 4*rounds || tally["instants"] < 4*rounds {
				t.Error("too few queries were compared")
			}
		})
	}
}

// rangeCase is a query over a range, and a point to cut it at.
type rangeCase struct {
	query       string
	expr        metricsql.Expr
	start, step int64
	points, cut int64
	at          []int64 // points to ask for alone
}

func newRangeCase(g *queryGen, rng *rand.Rand) *rangeCase {
	c := &rangeCase{query: g.query(), start: oracleStart - 300_000 + rng.Int64N(1_200_000), step: 5000 + rng.Int64N(60_000), points: 4 + rng.Int64N(40)}
	c.cut = 2 + rng.Int64N(c.points-3)
	for range 3 {
		c.at = append(c.at, c.start+rng.Int64N(c.points)*c.step)
	}
	return c
}

func (c *rangeCase) check(t *testing.T, e *Engine, rules rangeRules, tally map[string]int) {
	t.Helper()
	var err error
	if c.expr, err = metricsql.Parse(c.query); err != nil {
		t.Fatalf("%s: %s", c.query, err)
	}
	whole, failure := outcome(e, c.query, c.start, c.start+(c.points-1)*c.step, c.step)
	if failure != "" {
		tally["errors"]++
		return
	}
	if reason := rules.reason(c.expr, c.step); reason != "" {
		tally["not compared: "+reason]++
	} else {
		tally["ranges"]++
		c.checkParts(t, e, pointsOf(whole))
	}
	rules.instants = true
	if rules.reason(c.expr, c.step) == "" && !isWindow(c.expr) {
		tally["instants"]++
		c.checkInstants(t, e, pointsOf(whole))
	}
}

// isWindow reports whether an instant query of the expression answers what is in a window.
func isWindow(e metricsql.Expr) bool {
	re, ok := e.(*metricsql.RollupExpr)
	return ok && re.Window != nil && re.At == nil
}

// parts evaluates the range in two parts.
func (c *rangeCase) parts(e *Engine) (points map[string]map[int64]float64, failure string) {
	before, failed := outcome(e, c.query, c.start, c.start+(c.cut-1)*c.step, c.step)
	after, failedAfter := outcome(e, c.query, c.start+c.cut*c.step, c.start+(c.points-1)*c.step, c.step)
	points = pointsOf(before)
	for name, more := range pointsOf(after) {
		if points[name] == nil {
			points[name] = map[int64]float64{}
		}
		maps.Copy(points[name], more)
	}
	return points, failed + failedAfter
}

func (c *rangeCase) checkParts(t *testing.T, e *Engine, whole map[string]map[int64]float64) {
	t.Helper()
	parts, failure := c.parts(e)
	if failure != "" {
		return // series of which one goes on where the other ends are merged in long ranges only
	}
	if diff := nearly(whole, parts); diff != "" {
		t.Errorf("%s from %d, %d points with step %d, cut before point %d: %s", c.query, c.start, c.points, c.step, c.cut, diff)
	}
}

func (c *rangeCase) checkInstants(t *testing.T, e *Engine, whole map[string]map[int64]float64) {
	t.Helper()
	for _, at := range c.at {
		res, err := e.Query(context.Background(), &Request{Query: c.query, Start: at, Step: c.step, NoCache: true})
		if err != nil {
			continue // as for parts
		}
		want := map[string]map[int64]float64{}
		for name, points := range whole {
			if v, ok := points[at]; ok {
				want[name] = map[int64]float64{at: v}
			}
		}
		if diff := nearly(want, pointsOf(res)); diff != "" {
			t.Errorf("%s at %d, and with step %d from %d: %s", c.query, at, c.step, c.start, diff)
		}
	}
}

// TestRangesMatter has an example for each reason why a point depends on the range: the reason is found, and is one.
func TestRangesMatter(t *testing.T) {
	for reason, example := range map[string]struct{ setting, query string }{
		byBounds:   {"regular", "end()"},
		byAll:      {"regular", "running_sum(x)"},
		byPresence: {"regular", "any(x > 45)"},
		byOrder:    {"regular", "any(sort(x))"},
		byEstimate: {"irregular", "x"},
		byBefore:   {"regular", "mode_over_time(x[20s])"},
		byAfter:    {"regular", "integrate(x[1m])"},
		byStart:    {"irregular with a floor", "delta(x[1m])"},
		byResets:   {"regular", `aggr_over_time(("max_over_time", "rate"), x[1m])`},
	} {
		setting := rangeSettings()[slices.IndexFunc(rangeSettings(), func(s rangeSetting) bool { return s.name == example.setting })]
		rng := rand.New(rand.NewPCG(1, 0))
		differ := false
		for tries := 0; tries < 300 && !differ; tries++ {
			c := newRangeCase(&queryGen{rng: rng}, rng)
			c.query, c.step = example.query, 15_000+rng.Int64N(5000)
			expr, err := metricsql.Parse(c.query)
			if err != nil {
				t.Fatal(err)
			}
			if got := setting.rules.reason(expr, c.step); got != reason {
				t.Fatalf("%s: %q; want %q", c.query, got, reason)
			}
			e := testEngine(t, setting.fleet(rng), setting.flags...)
			whole, failure := outcome(e, c.query, c.start, c.start+(c.points-1)*c.step, c.step)
			parts, failedPart := c.parts(e)
			differ = failure+failedPart == "" && nearly(pointsOf(whole), parts) != ""
		}
		if !differ {
			t.Errorf("%s (%s): no range is found in which it matters", example.query, reason)
		}
	}
}

// TestPropertyWorkers checks that one worker and several give the same bits, in queries of several batches.
func TestPropertyWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	eachRound(t, 2, func(rng *rand.Rand) {
		g := &queryGen{rng: rng}
		m := randomFleet(rng, 100)
		one, many := testEngine(t, m, "-search.maxWorkersPerQuery=1"), testEngine(t, m, "-search.maxWorkersPerQuery=4")
		for range 12 {
			q := g.query()
			start := oracleStart + rng.Int64N(300_000)
			want, failure := outcome(one, q, start, start+1_500_000, 1000)
			if got, err := outcome(many, q, start, start+1_500_000, 1000); !sameBits(got, want) || err != failure {
				t.Errorf("%s from %d differs with several workers: %s%s", q, start, failure, err)
			}
		}
	})
}

// TestPropertyConversion checks that -search.disableImplicitConversion refuses queries, namely those in which something other than a selector is
// under a rollup without brackets, and that it changes no answer.
func TestPropertyConversion(t *testing.T) {
	refused := 0
	eachRound(t, 5, func(rng *rand.Rand) {
		g := &queryGen{rng: rng}
		m := randomFleet(rng, 7)
		lax, strict := testEngine(t, m), testEngine(t, m, "-search.disableImplicitConversion")
		for range 60 {
			q := g.query()
			if g.chance(3) {
				q = "max_over_time(" + q + ")"
			}
			start := oracleStart + rng.Int64N(600_000)
			r := &Request{Query: q, Start: start, End: start + 600_000, Step: 30_000, NoCache: true}
			got, err := strict.QueryRange(context.Background(), r)
			if err != nil && strings.Contains(err.Error(), "-search.disableImplicitConversion") {
				refused++
				if expr, _ := metricsql.Parse(q); !converts(expr) || errkind.Of(err) != errkind.BadRequest {
					t.Errorf("%s: %v", q, err)
				}
				continue
			}
			want, wantErr := lax.QueryRange(context.Background(), r)
			if (err == nil) != (wantErr == nil) || err == nil && !sameBits(got, want) {
				t.Errorf("%s from %d differs: %v %v", q, start, err, wantErr)
			}
		}
	})
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// converts reports whether something other than a selector is under a rollup without brackets.
func converts(e metricsql.Expr) bool {
	found := false
	metricsql.Visit(e, func(e metricsql.Expr) bool {
		if f, ok := e.(*metricsql.FuncExpr); ok && !found {
			i := metricsql.RollupArgIndex(f)
			if i >= 0 && i < len(f.Args) {
				arg := asRollupArg(f.Args[i])
				_, isSelector := arg.Expr.(*metricsql.MetricExpr)
				found = !isSelector && arg.Window == nil && !arg.IsSubquery()
			}
		}
		return !found
	})
	return found
}

// choosesByOrder tells queries which choose by the order of series, or by values of which the last bit depends on it; or of whose values most
// digits cancel out: variances of times.
func choosesByOrder(e metricsql.Expr) bool {
	chooses, varies, times := false, false, false
	look := func(name string) {
		chooses = chooses || choosyFunction(name)
		varies = varies || strings.HasPrefix(name, "std")
		times = times || strings.HasPrefix(name, "t") && strings.HasSuffix(name, "_over_time") || strings.HasPrefix(name, "time")
	}
	metricsql.Visit(e, func(e metricsql.Expr) bool {
		switch x := e.(type) {
		case *metricsql.AggrExpr:
			look(x.Name)
			chooses = chooses || x.Limit > 0
		case *metricsql.FuncExpr:
			look(x.Name)
		case *metricsql.StringExpr:
			look(x.Value) // in aggr_over_time
		case *metricsql.BinaryExpr:
			// Of series which the matched labels do not tell apart the later one wins where both have a point.
			chooses = chooses || isComparison(x.Op) || x.Op == "%" || len(x.MatchLabels) > 0 || x.Match == metricsql.MatchOn
		}
		return !chooses
	})
	return chooses || varies && times
}

func choosyFunction(name string) bool {
	if name == "sum_over_time" || name == "count_over_time" {
		return false
	}
	for _, part := range []string{"any", "topk", "bottomk", "limit", "outlier", "mode", "count_", "share_", "sum_", "distinct", "floor", "ceil", "round", "trim", "zscore", "bitmap", "hist", "sgn", "changes", "creases",
		"resets", "scent", "rate", "increase", "tmin", "tmax", "tlast_change", "mad", "quantile", "hour", "day_", "sqrt", "ln", "log"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
