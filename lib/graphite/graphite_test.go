package graphite

import (
	"context"
	"errors"
	"math"
	"math/rand"
	"regexp"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a.b", "a.b"},
		{" a.{b,c}.*[0-9]-x ", "a.{b,c}.*[0-9]-x"},
		{`sum( a , 'x' ,"y's", 1e3, true, None, n = 5 )`, `sum(a,'x',"y's",1e3,true,None,n=5)`},
		{`a|b()|c(1)`, `c(b(a),1)`},
		{`f(a|b(), c)`, `f(b(a),c)`},
		{`f('a\'b"c')`, `f('a\'b"c')`},
		{`f('a\\.b\d')`, `f('a\.b\d')`},
		{`f(FALSE,inf,-1,.5,0x10,1_0)`, `f(false,inf,-1,.5,0x10,1_0)`},
		{`f(a=b.c)`, `f(a=b.c)`},
		{`f(a;b=c)`, `f(a;b=c)`},
		{`f()`, `f()`},
		{`a\,b`, `a\,b`},
		{`métrique.ü`, `métrique.ü`},
	} {
		e, err := Parse(c.in)
		if err != nil {
			t.Errorf("%s: %s", c.in, err)
			continue
		}
		if got := Print(e); got != c.want {
			t.Errorf("%s: got %s, want %s", c.in, got, c.want)
		}
	}
	for in, want := range map[string]string{
		"":                                "want a path",
		"sumSeries(":                      "want a path",
		"f(a":                             "want a comma or )",
		"f(a))":                           "want the end of the target",
		"f('a)":                           "want a string with a quote at its end",
		"a b":                             "want the end",
		"f(,)":                            "want a path",
		"a.{b":                            "as many } as {",
		"a|b":                             "want a function call after |",
		"a.b(c)":                          "want a function name before (",
		"f(n=1,2)":                        "arguments without a name come before",
		strings.Repeat("f(", 300):         "nested calls",
		"a" + strings.Repeat("|f()", 300): "piped calls",
	} {
		if _, err := Parse(in); err == nil || !strings.Contains(err.Error(), want) || errkind.Of(err) != errkind.BadRequest {
			t.Errorf("%.30s: got %v, want %s", in, err, want)
		}
	}
}

// FuzzParse checks that what was parsed prints as something that is parsed to the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a.b", `f(a.{b,c},'x\'',"y",n=1)|g()`, `f("\\",1e5,true,None)`, `a\,b[!c]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := Parse(s)
		if err != nil {
			return
		}
		text := Print(e)
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("%q prints as %q, which cannot be parsed: %s", s, text, err)
		}
		if got := Print(again); got != text {
			t.Fatalf("%q prints as %q and then as %q", s, text, got)
		}
	})
}

func TestPattern(t *testing.T) {
	for _, c := range []struct{ pattern, match, other string }{
		{"a.b", "a.b", "a.bc axb a a.b.c"},
		{"a.*", "a.b a.", "a.b.c b.c a"},
		{"*", "a zürich", "a.b"},
		{"a?.b", "ax.b aü.b", "a.b axx.b"},
		{"a.{b,c*}.d", "a.b.d a.c.d a.cx.d", "a.bx.d a.b,c.d"},
		{"a.{b.c,d}", "a.b.c a.d", "a.b a.c"},
		{"a[0-2x]", "a0 a2 ax", "a3 a-"},
		{"a[!0-2]", "a3 ax", "a0 a2 a."},
		{"a[^b]", "ac", "ab"},
		{"a[-b]", "a- ab", "ac"},
		{`a\*b`, "a*b", "axb"},
		{"a+b(c)", "a+b(c)", "aab(c)"},
		{"a.{{b,c}d,e}", "a.bd a.cd a.e", "a.b"},
		{"a,b}", "a,b}", "a b"},
	} {
		p, err := ParsePattern(c.pattern, '.')
		if err != nil {
			t.Errorf("%s: %s", c.pattern, err)
			continue
		}
		whole, below := regexp.MustCompile("^(?:"+p.Regexp()+")$"), regexp.MustCompile("^(?:"+p.Below()+")$")
		for _, s := range strings.Fields(c.match) {
			if !whole.MatchString(s) || !below.MatchString(s) || !below.MatchString(s+".x\n.y") {
				t.Errorf("%s does not match %q", c.pattern, s)
			}
			if literal, ok := p.IsLiteral(); ok && literal != s {
				t.Errorf("%s is the literal %q", c.pattern, literal)
			}
		}
		for _, s := range strings.Fields(c.other) {
			if whole.MatchString(s) {
				t.Errorf("%s matches %q", c.pattern, s)
			}
		}
	}
	for _, delimiter := range []byte(`_-^]/\:`) {
		p, err := ParsePattern("a"+string(delimiter)+"*", delimiter)
		if delimiter == '\\' { // takes the meaning from the character after it
			continue
		}
		if err != nil || !regexp.MustCompile("^(?:"+p.Regexp()+")$").MatchString("a"+string(delimiter)+"b.c") {
			t.Errorf("delimiter %c: %v %v", delimiter, p, err)
		}
	}
	for _, bad := range []string{"a.[b", "a.[]", "a{b", "a.[b-a]", "{a.b"} {
		if _, err := ParsePattern(bad, '.'); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// FuzzPattern checks that patterns become regular expressions which compile, and that literals match themselves only.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{"a.*.b", "a.{b,c}.[!d]", `a\*[-x]`, "{a.b,c}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePattern(s, '.')
		if err != nil {
			return
		}
		whole, err := regexp.Compile("^(?:" + p.Regexp() + ")$")
		if err != nil {
			t.Fatalf("%q: %s", s, err)
		}
		if _, err := regexp.Compile(p.Below()); err != nil {
			t.Fatalf("%q: %s", s, err)
		}
		if literal, ok := p.IsLiteral(); ok && (!whole.MatchString(literal) || whole.MatchString(literal+"x")) {
			t.Fatalf("%q does not match %q", p.Regexp(), literal)
		}
	})
}

func TestParseTime(t *testing.T) {
	now := time.Date(2024, 6, 5, 14, 30, 20, 0, time.UTC) // a Wednesday
	for in, want := range map[string]string{
		"now": "2024-06-05T14:30:20Z", "-1h": "2024-06-05T13:30:20Z", "now-1d": "2024-06-04T14:30:20Z", "now+1min": "2024-06-05T14:31:20Z", "-1h30min": "2024-06-05T13:00:20Z",
		"today": "2024-06-05T00:00:00Z", "midnight": "2024-06-05T00:00:00Z", "noon": "2024-06-05T12:00:00Z", "teatime": "2024-06-05T16:00:00Z",
		"yesterday": "2024-06-04T00:00:00Z", "tomorrow": "2024-06-06T00:00:00Z", "noon_yesterday": "2024-06-04T12:00:00Z", "midnight-2h": "2024-06-04T22:00:00Z",
		"04:00_20240601": "2024-06-01T04:00:00Z", "20240601": "2024-06-01T00:00:00Z", "6pm today": "2024-06-05T18:00:00Z", "12am": "2024-06-05T00:00:00Z", "6:05pm": "2024-06-05T18:05:00Z",
		"06/01/24": "2024-06-01T00:00:00Z", "6/1/2024": "2024-06-01T00:00:00Z", "monday": "2024-06-03T00:00:00Z", "noon_wed": "2024-06-05T12:00:00Z", "thu": "2024-05-30T00:00:00Z",
		"january 5": "2024-01-05T00:00:00Z", "mar7": "2024-03-07T00:00:00Z", "1717200000": "2024-06-01T00:00:00Z", "1717200000.5": "2024-06-01T00:00:00.5Z", "1717200000000": "2024-06-01T00:00:00Z",
		"2024-06-01": "2024-06-01T00:00:00Z", "2024-06-01T10:00:00+02:00": "2024-06-01T08:00:00Z", "0": "1970-01-01T00:00:00Z", "-200y": "1970-01-01T00:00:00Z",
	} {
		ms, err := ParseTime(in, now)
		if got := time.UnixMilli(ms).UTC().Format(time.RFC3339Nano); err != nil || got != want {
			t.Errorf("%s: got %s %v, want %s", in, got, err, want)
		}
	}
	for _, bad := range []string{"bad", "-1x", "now-", "99:00", "2024-13-01", "feb 40", "20241301x", "-9e99y"} {
		if ms, err := ParseTime(bad, now); err == nil {
			t.Errorf("%s is %d", bad, ms)
		}
	}
	east := time.FixedZone("east", 2*3600)
	if ms, err := ParseTime("midnight", now.In(east)); err != nil || ms != time.Date(2024, 6, 4, 22, 0, 0, 0, time.UTC).UnixMilli() {
		t.Errorf("midnight in the east: %d %v", ms, err)
	}
}

// FuzzParseTime checks that times stay within what can be stored.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"now-1h", "04:00_20240601", "1717200000", "noon_monday+2d", "6/1/24", "2024-06-01T00:00:00Z"} {
		f.Add(s)
	}
	now := time.Unix(1717200000, 0).UTC()
	f.Fuzz(func(t *testing.T, s string) {
		ms, err := ParseTime(s, now)
		if err == nil && (ms < 0 || ms > 9_223_372_036_854) {
			t.Fatalf("%q is %d", s, ms)
		}
	})
}

func TestInterval(t *testing.T) {
	for in, want := range map[string]int64{
		"10": 10_000, "10s": 10_000, "1m": 60_000, "5min": 300_000, "2minutes": 120_000, "1h30min": 5_400_000, "-1d": -86_400_000, "1w": 604_800_000, "1mon": 2_592_000_000, "1.5h": 5_400_000, "1Y": 31_536_000_000, "500ms": 500,
	} {
		if got, err := ParseInterval(in); err != nil || got != want {
			t.Errorf("%s: got %d %v, want %d", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "x", "5", "1x", "1h-", "h", "9999y", "1e300y"} {
		if got, err := ParseInterval(bad); bad != "5" && err == nil {
			t.Errorf("%q is %d", bad, got)
		}
	}
}

func newRun(source Source, points int, budget int64) *Run {
	req := Request{From: 600_000, Until: 1_200_000, Step: 60_000, Now: time.Unix(1200, 0).UTC()}
	return New().NewRun(source, req, Limits{MaxPointsPerSeries: points, Budget: memory.NewBudget(budget)})
}

func ramp(names ...string) *memSource {
	m := &memSource{}
	for _, name := range names {
		s := &Series{Name: name, Tags: map[string]string{"name": name}, Step: 60_000}
		for i := range 100 {
			s.Values = append(s.Values, float64(i))
		}
		m.series = append(m.series, s)
	}
	return m
}

func TestLimits(t *testing.T) {
	for target, want := range map[string]string{
		"a":                           "",
		"movingAverage(a,10)":         "",
		"movingAverage(a,11)":         "-search.graphiteMaxPointsPerSeries",
		"summarize(a,'1s')":           "-search.graphiteMaxPointsPerSeries",
		"hitcount(a,'1s')":            "-search.graphiteMaxPointsPerSeries",
		"time('x',1)":                 "-search.graphiteMaxPointsPerSeries",
		"timeStack(a,'1d',0,5000)":    "at most 1000 are allowed",
		"holtWintersForecast(a)":      "-search.graphiteMaxPointsPerSeries",
		"movingAverage(a,'200y')":     "-search.graphiteMaxPointsPerSeries",
		"movingAverage(a,2147483647)": "-search.graphiteMaxPointsPerSeries",
		"timeShift(a,'200y')":         "",
	} {
		r := newRun(ramp("a"), 21, 1<<20)
		_, err := r.Render(context.Background(), target)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", target, err, want)
		}
		r.Close()
	}
}

// TestGrowingNames makes sure that nested replacements do not grow without end.
func TestGrowingNames(t *testing.T) {
	target := "abcdefgh"
	for range 20 {
		target = `aliasSub(` + target + `,'^.*$','\0\0')`
	}
	r := newRun(ramp("abcdefgh"), 0, 1<<20)
	defer r.Close()
	if _, err := r.Render(context.Background(), target); err == nil || !strings.Contains(err.Error(), "bytes: at most 4096 are allowed") {
		t.Errorf("got %v", err)
	}
	for format, want := range map[string]string{"%d": "7", "%5.1f|": "  7.5|", "%999d": "%999d", "%.100f": "%.100f", "100%": "100%", "%s %%": "7.5 %", "%q": "%q"} {
		if got := sprintf(format, 7.5); got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
}

func TestLongPathsAreCut(t *testing.T) {
	r := newRun(ramp("zürich", "a"), 0, 1<<20)
	defer r.Close()
	r.limits.MaxPathLen = 9
	for target, want := range map[string]string{"sumSeries(zürich,a)": "sumSeries(zürich,a)", "sumSeries(a,zürich,zürich)": "sumSeries(a,zürich)", "maxSeries(a,a,scale(zürich,2))": "maxSeries(a,scale(z)"} {
		list, err := r.Render(context.Background(), target)
		if err != nil || len(list) != 1 || list[0].Name != want {
			t.Errorf("%s: %v %v, want %s", target, list, err, want)
		}
	}
}

func TestMemoryAndCancellation(t *testing.T) {
	r := newRun(ramp("a", "b", "c"), 0, 1000)
	if _, err := r.Render(context.Background(), "sumSeries(*)"); errkind.Of(err) != errkind.Overloaded && errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("without memory: %v", err)
	}
	r.Close()
	if r.limits.Budget.Used() != 0 {
		t.Errorf("%d bytes are still held", r.limits.Budget.Used())
	}
	// What one request may have is its own fault, what others leave is not. All that functions make counts.
	budget := memory.NewBudget(100_000)
	for _, c := range []struct {
		target string
		most   int64
		taken  int64
		kind   errkind.Kind
	}{
		{"*", 0, 0, errkind.Internal}, {"*", 900, 0, errkind.Unprocessable}, {"*", 1100, 0, errkind.Internal}, {"scale(*,2)", 1100, 0, errkind.Unprocessable}, {"scale(*,2)", 2100, 0, errkind.Internal},
		{"group(" + strings.Repeat("scale(*,2),", 60) + "a)", 0, 0, errkind.Unprocessable}, {"*", 0, 99_000, errkind.Overloaded}, {"*", 900, 99_000, errkind.Unprocessable},
	} {
		budget.ForceReserve(c.taken)
		r := newRun(ramp("a", "b", "c"), 0, 1)
		r = r.engine.NewRun(r.source, r.req, Limits{MaxBytes: c.most, Budget: budget})
		_, err := r.Render(context.Background(), c.target)
		if (err == nil) != (c.kind == errkind.Internal) || err != nil && errkind.Of(err) != c.kind || c.kind == errkind.Unprocessable && !strings.Contains(err.Error(), "-search.maxMemoryPerQuery") {
			t.Errorf("%.40s with %d bytes while others have %d: %v", c.target, c.most, c.taken, err)
		}
		r.Close()
		budget.Release(c.taken)
	}
	if budget.Used() != 0 {
		t.Errorf("%d bytes are still held", budget.Used())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := newRun(ramp("a"), 0, 1<<20).Render(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancellation: %v", err)
	}
}

func TestFetchesOnce(t *testing.T) {
	source := ramp("a", "b")
	r := newRun(source, 0, 1<<20)
	defer r.Close()
	for _, target := range []string{"asPercent(a,sumSeries(a,b))", "scale(a,2)", "consolidateBy(a,'max')"} {
		if _, err := r.Render(context.Background(), target); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(source.asked, " "); got != "a b a" { // the last one for its maxima
		t.Errorf("asked for %s", got)
	}
}

func TestNormalize(t *testing.T) {
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewSource(seed))
	for range 300 {
		var list []*Series
		total := 0.0
		for range 1 + rng.Intn(4) {
			step := int64(1+rng.Intn(6)) * 1000
			s := &Series{Name: "x", Start: int64(rng.Intn(10)) * step, Step: step, Consolidation: "sum"}
			for range rng.Intn(30) {
				v := float64(rng.Intn(100))
				s.Values = append(s.Values, v)
				total += v
			}
			list = append(list, s)
		}
		got := 0.0
		out := normalize(list)
		for _, s := range out {
			if s.Step != out[0].Step || s.Start != out[0].Start || len(s.Values) != len(out[0].Values) {
				t.Fatalf("seed %d: grids differ: %+v %+v", seed, s, out[0])
			}
			got += sumOf(s.Values)
		}
		if got != total {
			t.Fatalf("seed %d: the sum was %g and is %g", seed, total, got)
		}
	}
}

// TestSlider compares windows with what the aggregates say of them.
func TestSlider(t *testing.T) {
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewSource(seed))
	for range 500 {
		values := make([]float64, rng.Intn(40))
		for i := range values {
			if values[i] = float64(rng.Intn(100)); rng.Intn(3) == 0 {
				values[i] = math.NaN()
			}
		}
		points, share := 1+rng.Intn(12), float64(rng.Intn(3))/3
		for _, name := range []string{"sum", "average", "min", "max"} {
			agg := consolidator(name)
			w := newSlider(agg)
			w.load(values, points)
			for end := 1; end <= len(values); end++ {
				first := max(0, end-points)
				got, want := w.at(first, end, points, share), agg.over(values[first:end], share)
				if got != want && !(isNull(got) && isNull(want)) {
					t.Fatalf("seed %d: %s of %v[%d:%d] with windows of %d: got %g, want %g", seed, name, values, first, end, points, got, want)
				}
			}
		}
	}
}

// FuzzRender evaluates whatever can be parsed.
func FuzzRender(f *testing.F) {
	for _, s := range []string{"sumSeries(a,b)", "movingAverage(a,'5min')", "asPercent(a,b,0)|sortByName()", "holtWintersAberration(a,2,'3min','2min')", "legendValue(a,'si')", "aliasQuery(a,'a','b','%-5d')", "substr(a,5,-9)"} {
		f.Add(s)
	}
	source := ramp("a", "b", "x.y")
	f.Fuzz(func(t *testing.T, s string) {
		r := newRun(source, 200, 1<<20)
		defer r.Close()
		list, err := r.Render(context.Background(), s)
		if err != nil {
			return
		}
		for _, s := range list {
			if s.Step <= 0 || len(s.Values) > 1000 {
				t.Fatalf("%d values with a step of %d", len(s.Values), s.Step)
			}
			Consolidate(s, 3)
		}
	})
}
