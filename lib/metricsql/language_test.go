package metricsql

import (
	"math"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
)

func TestCanonicalText(t *testing.T) {
	for _, tc := range []struct{ q, want string }{
		// selectors
		{`m`, `m`},
		{`m{}`, `m`},
		{`{}`, `{}`},
		{`{__name__="m"}`, `m`},
		{`{"m", a="b"}`, `m{a="b"}`},
		{`{"with space", "l-x"='v'}`, `{__name__="with space","l-x"="v"}`},
		{`m{a='1' or b="2"}`, `m{a="1" or b="2"}`},
		{`{a="1" or b="2", __name__="m"}`, `m{a="1" or b="2"}`},
		{`{a="1" or __name__=~"x", b="2" or __name__="m"}`, `{__name__="m",a="1" or __name__=~"x",b="2" or __name__="m"}`},
		{`m{a="x" + 'y',}`, `m{a="xy"}`},
		{`{on="1", "or"="2"}`, `{on="1","or"="2"}`},
		{`web\.n1\-x`, `{__name__="web.n1-x"}`},
		{`fixed\x5flevel`, `fixed_level`},
		{`größe{größe="groß"}`, `größe{größe="groß"}`},
		{`m{a="\u00e9\x41\n"}`, `m{a="éA\n"}`},
		// windows, offsets, @
		{`m[5m]`, `m[5m]`},
		{`m[5m:]`, `m[5m:]`},
		{`m[1h30m:2i] offset -1h-10m @ (end() - 5m)`, `m[1h30m:2i] offset -1h-10m @ (end() - 5m)`},
		{`m @ end() offset 5m`, `m offset 5m @ end()`},
		{`m[$__interval]`, `m`},
		{`rate(m[$__rate_interval])`, `rate(m)`},
		{`m[$__interval:1m]`, `m[1i:1m]`},
		{`m @ 5 [5m:1m] offset 1m`, `(m @ 5)[5m:1m] offset 1m`},
		{`(a + b)[5m:1m]`, `(a + b)[5m:1m]`},
		{`(1 + 2) offset 5m`, `3 offset 5m`},
		{`(-3) offset 5m`, `(-3) offset 5m`},
		// precedence and parentheses
		{`a + b * c`, `a + b * c`},
		{`(a + b) * c`, `(a + b) * c`},
		{`a - (b - c)`, `a - (b - c)`},
		{`(a - b) - c`, `a - b - c`},
		{`a ^ b ^ c`, `a ^ b ^ c`},
		{`(a ^ b) ^ c`, `(a ^ b) ^ c`},
		{`-a ^ b`, `0 - a ^ b`},
		{`-a * b`, `0 - a * b`},
		{`(-2) * a`, `(-2) * a`},
		{`a * -b ^ c * d`, `a * (0 - b ^ c) * d`},
		{`a default b if c or d and e == f`, `a default b if c or d and e == f`},
		{`((a default b) if c) or d`, `((a default b) if c) or d`},
		{`a and on() b`, `a and on() b`},
		{`a > BOOL b`, `a > bool b`},
		{`a * on (x, y,) group_left (*) prefix "p_" b`, `a * on(x,y) group_left(*) prefix "p_" b`},
		{`a + ignoring(x) group_right b`, `a + ignoring(x) group_right() b`},
		{`a + fill(0) b`, `a + fill_left(0) fill_right(0) b`},
		{`a + on (k) fill_left(-1) b`, `a + on(k) fill_left(-1) b`},
		{`on + ignoring / bool`, `{__name__="on"} + {__name__="ignoring"} / {__name__="bool"}`},
		{`(a + b) keep_metric_names`, `(a + b) keep_metric_names`},
		{`a + b * 2 keep_metric_names`, `a + (b * 2) keep_metric_names`},
		{`rate(m) keep_metric_names offset 5m`, `rate(m) keep_metric_names offset 5m`},
		{`q == (1, 2)`, `q == (1, 2)`},
		{`q == (1,)`, `q == 1`},
		// aggregates
		{`SUM(x) BY (a, "b c") LIMIT 3`, `sum(x) by(a,"b c") limit 3`},
		{`sum without (a) (x, y,)`, `sum(x, y) without(a)`},
		{`sum`, `sum`},
		{`sum{a="b"} + count`, `sum{a="b"} + count`},
		// numbers and constants
		{`1 + 2 * 3`, `7`},
		{`1h - 30m`, `1800`},
		{`1Ki`, `1Ki`},
		{`08.5 + 0`, `8.5`},
		{`2i + 1`, `2i + 1`},
		{`NaN default 5`, `5`},
		{`"a" + "b"`, `"ab"`},
		{`"a" == bool "b"`, `0`},
		{`2 ^ 3 ^ 2`, `512`},
		{`-2 ^ 2`, `-4`},
		{`5 # five`, `5`},
		// templates
		{`WITH (x = a + b) x * x`, `(a + b) * (a + b)`},
		{`WITH (f(x, y) = x / y) f(a, f(b, c))`, `a / (b / c)`},
		{`WITH (f(x) = x{a="1"}) f(m{b="2"}[5m])`, `m{b="2",a="1"}[5m]`},
		{`WITH (c = {a="1"}, d = {c, b="2"}) m{d, x="3"}`, `m{a="1",b="2",x="3"}`},
		{`WITH (x = x + 1) x`, `x + 1`},
		{`WITH (x = 1, f(x) = x + 1) f(x + 3)`, `5`},
		{`WITH (x = 1, y = x) WITH (x = 2) x + y * 10`, `12`},
		{`WITH (f(l) = sum(m) by (l)) f((a, b))`, `sum(m) by(a,b)`},
		{`WITH (d = 90, s = 2i) rate(m[d:s] offset d)`, `rate(m[90:2i] offset 90)`},
		{`WITH (f() = m, f2() = f() + f()) f2()`, `m + m`},
		{`WITH (rate(x) = x) rate(y)`, `y`},
		{`with`, `{__name__="with"}`},
		{`ru(a, b)`, `clamp_min(b - clamp_min(a, 0), 0) / clamp_min(b, 0) * 100`},
	} {
		got, err := ExpandWith(tc.q)
		if err != nil {
			t.Errorf("%s: %s", tc.q, err)
			continue
		}
		if got != tc.want {
			t.Errorf("%s: got %s; want %s", tc.q, got, tc.want)
		}
		checkFixpoint(t, tc.q)
		checkPretty(t, tc.q)
	}
}

func TestErrorsSayWhereAndWhat(t *testing.T) {
	for _, tc := range []struct{ q, want string }{
		{"sum(a) +\n  größe ]", `line 2, column 9: unexpected "]"; want an operator or the end of the query; there is nothing for it to close; near "sum(a) +\n  größe ]"`},
		{``, `line 1, column 1: unexpected end of query; want an expression`},
		{`rate(m[5m]`, `column 11: unexpected end of query; want "," or ")"`},
		{`nosuch(m)`, `column 1: unsupported function "nosuch"`},
		{`m{a=}`, `column 5: unexpected "}"; want a string`},
		{`m{a~"b"}`, `unexpected character '~'`},
		{`m{a=~"["}`, `column 6: cannot parse regular expression "["`},
		{`a{__name__="b"}`, `two metric names, "a" and "b"`},
		{`m[5M]`, `column 3: unexpected "5M"; want a window`},
		{`m[-5m]`, `unexpected "-"; want a window`},
		{`m[1m-2m]`, `want a window such as 5m, which is not negative`},
		{`m[5m][5m]`, `unexpected "["`},
		{`m offset 1m[5m]`, `a window must stand before offset and @`},
		{`m offset 1m offset 2m`, `one offset only`},
		{`1h5`, `cannot parse number "1h5": unknown suffix "5"`},
		{`08`, `a number with a leading zero is octal`},
		{`a and on (x) group_left () b`, `group_left is not allowed with "and"`},
		{`a or fill(1) b`, `fill is not allowed with "or"`},
		{`"a`, `string is not closed`},
		{`'a\q'`, `unknown escape`},
		{`WITH (x = 1, x = 2) x`, `template "x" is defined twice`},
		{`WITH (f(x, x) = 1) f(1, 2)`, `parameter "x" is named twice`},
		{`WITH (f(x) = x) f()`, `template "f" is called with 0 arguments; want 1`},
		{`WITH (f(x) = ) 1`, `column 14: unexpected ")"; want an expression`},
		{`WITH (f(x) = nosuch(x)) 1`, `unsupported function "nosuch"`},
		{`WITH (g = a) sum(m) by (g)`, `template "g" cannot be used as a label name`},
		{`ru(1)`, `template "ru" is called with 1 arguments; want 2`},
		{`sum(m) limit 1.5`, `want the number of groups`},
		{strings.Repeat("(", 16<<10), `nested deeper than 500 levels`},
		{strings.Repeat("-", 16<<10) + "1", `nested deeper than 500 levels`},
		{strings.Repeat("2^", 8<<10) + "1", `nested deeper than 500 levels`},
		{strings.Repeat("a@", 8<<10) + "1", `one "@" only`},
		{"a" + strings.Repeat("@1[1:1]", 2000), `nested deeper than 500 levels`},
		{strings.Repeat("x", maxQueryBytes+1), `want at most 1048576`},
	} {
		_, err := Parse(tc.q)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.60q: got %v; want %s", tc.q, err, tc.want)
		}
		if errkind.Of(err) != errkind.BadRequest {
			t.Errorf("%.60q: kind %v", tc.q, errkind.Of(err))
		}
	}
}

func TestExpansionIsBounded(t *testing.T) {
	for _, form := range []string{"x%d = x%d + x%d", "f%d(a) = f%d(a) + f%d(a)"} {
		var b strings.Builder
		b.WriteString("WITH (x0 = m, f0(a) = a")
		for i := 1; i < 60; i++ {
			text := form
			for _, n := range []int{i, i - 1, i - 1} {
				text = strings.Replace(text, "%d", strings.Repeat("i", n+1), 1)
			}
			b.WriteString(", " + text)
		}
		q := strings.NewReplacer("x0", "xi", "f0", "fi").Replace(b.String()) + ") 1"
		_, err := Parse(q)
		if err == nil || !strings.Contains(err.Error(), "parts after the expansion of templates") {
			t.Errorf("%.80s: %v", q, err)
		}
	}
}

func TestLongChainsParse(t *testing.T) {
	checkFixpoint(t, "1"+strings.Repeat(" + m", 4000))
	checkFixpoint(t, "sum("+strings.Repeat("m, ", 4000)+")")
}

func TestDurations(t *testing.T) {
	const step = 1500
	for _, tc := range []struct {
		q    string
		want int64
	}{
		{`m[5m]`, 300_000}, {`m[90]`, 90_000}, {`m[1.5h]`, 5_400_000}, {`m[2i]`, 3000}, {`m[1i500ms]`, 2000},
		{`m[1h-10m]`, 3_000_000}, {`m[1e2]`, 100_000}, {`m[1_00]`, 100_000}, {`m[0]`, 0}, {`m[1D]`, 86_400_000},
		{`m[1y]`, 365 * 86_400_000}, {`WITH (w = 3m) m[w]`, 180_000}, {`WITH (w = 1 + 1) m[w]`, 2000},
	} {
		e, err := Parse(tc.q)
		if err != nil {
			t.Errorf("%s: %s", tc.q, err)
			continue
		}
		if got := e.(*RollupExpr).Window.Duration(step); got != tc.want {
			t.Errorf("%s: %d ms; want %d", tc.q, got, tc.want)
		}
	}
	e, err := Parse(`m offset -1h30m`)
	if err != nil || e.(*RollupExpr).Offset.Duration(step) != -5_400_000 {
		t.Errorf("negative offset: %v, %v", e, err)
	}
}

func TestNumbers(t *testing.T) {
	for _, tc := range []struct {
		q    string
		want float64
	}{
		{"0x1F", 31}, {"0b101", 5}, {"0o17", 15}, {"017", 15}, {"1_0.5_0", 10.5}, {"5KiB", 5120}, {"2.5M", 2.5e6}, {"1k", 1000},
		{"1m", 60}, {"1M", 1e6}, {"3gb", 3e9}, {"1Ti", 1 << 40}, {".5", 0.5}, {"5.", 5}, {"1e3", 1000}, {"100ms", 0.1},
		{"iNf", math.Inf(1)}, {"-inf", math.Inf(-1)}, {"1 / 0", math.Inf(1)}, {"5.5 % 2", 1.5}, {"-5 % 3", -2}, {"1 ^ NaN", 1},
		{"-1 atan2 -1", math.Atan2(-1, -1)}, {"3 > 2 > 1", 3}, {"NaN > bool 1", 0}, {"NaN != bool 1", 1}, {"1 unless 2 or 3", 3},
	} {
		e, err := Parse(tc.q)
		if err != nil {
			t.Errorf("%s: %s", tc.q, err)
			continue
		}
		if got := e.(*NumberExpr).Value; got != tc.want {
			t.Errorf("%s = %v; want %v", tc.q, got, tc.want)
		}
	}
	for _, q := range []string{"NaN ^ 0", "NaN == NaN", "0 / 0", "1 > NaN", "1 if NaN", "5 ifnot 0", "'a' - 'b'", "'a' != 'a'"} {
		if e, err := Parse(q); err != nil || !math.IsNaN(e.(*NumberExpr).Value) {
			t.Errorf("%s = %v, %v; want NaN", q, e, err)
		}
	}
}

func TestCheckArgs(t *testing.T) {
	for _, tc := range []struct{ q, want string }{
		{`rate()`, `unexpected number of args; got 0; want 1`},
		{`rate(m, 1)`, `unexpected number of args; got 2; want 1`},
		{`round(m, 1, 2)`, `got 3; want from 1 to 2`},
		{`sum()`, `got 0; want at least 1`},
		{`topk(1, m, "x")`, `got 3; want 2`},
		{`topk_avg(1, m, 2)`, `argument 3 is 2: want a string constant`},
		{`label_set(m, "a")`, `got 2; want 1 plus a multiple of 2`},
		{`label_set(m, 1, 2)`, `argument 2 is 1: want a string constant`},
		{`label_map(m, "a", "b")`, `got 3; want 2 plus a multiple of 2`},
		{`count_values(1, m)`, `argument 1 is 1: want a string constant`},
		{`quantiles("phi", m)`, `got 2; want at least 3`},
		{`aggr_over_time(1, m)`, `argument 1 is 1: want a string constant, or several`},
		{`rate(m[5m])`, ``}, {`label_set(m)`, ``}, {`label_set(m, "a", "b", "c", "d")`, ``}, {`union()`, ``}, {`()`, ``}, {`time()`, ``},
		{`quantiles("l", 0.1, 0.2, m)`, ``}, {`aggr_over_time(("a", "b"), m)`, ``}, {`sum(1, 2, 3)`, ``}, {`topk("x", m)`, ``}, {`m`, ``},
		{`label_join(m, "d", "-", "a", "b", "c")`, ``}, {`label_keep(m)`, ``}, {`range_normalize(a, b)`, ``},
	} {
		e, err := Parse(tc.q)
		if err != nil {
			t.Errorf("%s: %s", tc.q, err)
			continue
		}
		err = CheckArgs(e)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %s", tc.q, err)
		case tc.want == "":
		case err == nil || !strings.Contains(err.Error(), tc.want):
			t.Errorf("%s: got %v; want %s", tc.q, err, tc.want)
		case errkind.Of(err) != errkind.Unprocessable:
			t.Errorf("%s: kind %v", tc.q, errkind.Of(err))
		}
	}
}

func TestArgumentPositions(t *testing.T) {
	for q, want := range map[string]int{
		`rate(m)`: 0, `quantile_over_time(0.5, m)`: 1, `quantiles_over_time("l", 0.1, 0.2, m)`: 3, `holt_winters(m, 1, 2)`: 0,
		`abs(m)`: -1, `count_values_over_time("l", m)`: 1, `rate()`: 0,
	} {
		e, err := Parse(q)
		if err != nil {
			t.Fatal(err)
		}
		if got := RollupArgIndex(e.(*FuncExpr)); got != want {
			t.Errorf("RollupArgIndex(%s) = %d; want %d", q, got, want)
		}
	}
	e, _ := Parse(`quantiles_over_time("l", 0.1, 0.2, m)`)
	for i, want := range []bool{false, true, true, false, false} {
		if got := ScalarArg(e.(*FuncExpr), i); got != want {
			t.Errorf("ScalarArg(%d) = %v; want %v", i, got, want)
		}
	}
	for name, want := range map[string]Kind{
		"RATE": KindRollup, "abs": KindTransform, "": KindTransform, "label_set": KindLabel, "sum": KindAggregate, "nosuch": KindUnknown,
	} {
		if got := FunctionKind(name); got != want {
			t.Errorf("FunctionKind(%q) = %v; want %v", name, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"accept.txt", "reject.txt"} {
		for i, q := range readQueries(f, name) {
			if i%7 == 0 || len(q) > 60 {
				f.Add(q)
			}
		}
	}
	f.Fuzz(func(t *testing.T, q string) {
		e, err := Parse(q)
		if err != nil {
			if errkind.Of(err) != errkind.BadRequest {
				t.Fatalf("%q: kind %v of %v", q, errkind.Of(err), err)
			}
			return
		}
		checkFixpoint(t, q)
		Visit(e, func(e Expr) bool {
			_ = CheckArgs(e)
			return true
		})
		checkPretty(t, q)
	})
}

func BenchmarkParse(b *testing.B) {
	const q = `histogram_quantile(0.9, sum by (le, node) (rate(wait_seconds_bucket{job="api",env=~"prod|stage"}[5m]))) > on (node) group_left () 2 * avg(x{a!="b"})`
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(q); err != nil {
			b.Fatal(err)
		}
	}
}
