package metricsql

import (
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	promparser "github.com/prometheus/prometheus/promql/parser"
)

// promGen writes random queries of PromQL: all literals, names which are keywords, any case, blanks and comments. Some are not well
// typed; what Prometheus does not parse is not tried.
type promGen struct {
	rng *rand.Rand
	b   strings.Builder
}

// put writes words with blanks between them.
func (g *promGen) put(words ...string) {
	for _, w := range words {
		switch g.rng.IntN(40) {
		case 0:
			g.b.WriteString("\n\t")
		case 1:
			g.b.WriteString(" # a comment\n")
		default:
			g.b.WriteByte(' ')
		}
		g.b.WriteString(w)
	}
}

func (g *promGen) oneOf(list ...string) string { return list[g.rng.IntN(len(list))] }

func (g *promGen) chance(n int) bool { return g.rng.IntN(n) == 0 }

// keyword returns the word in some case.
func (g *promGen) keyword(word string) string {
	if g.chance(6) {
		return strings.ToUpper(word)
	}
	return word
}

func (g *promGen) metricName() string {
	return g.oneOf("m", "m", "http_requests_total", "a:b:c", ":x", "_", "sum", "by", "on", "ignoring", "offset", "group_left", "bool", "start", "end", "step",
		"rate", "without", "topk", "limitk", "count_values", "and", "or", "unless", "atan2", "default_x", "infinite", "NaNs", "e5", "group_right", "Sum", "AVG",
		"fill", "fill_left", "anchored", "smoothed", "quantile", "min", "range", "if", "ifnot", "default", "with", "limit", "keep_metric_names", "prefix", "time", "pi")
}

func (g *promGen) labelName() string {
	return g.oneOf("a", "b", "le", "__name__x", "by", "on", "or", "and", "sum", "offset", "bool", "inf", "nan", "group_left", "start", "limit", "if", "default", "with", "le")
}

func (g *promGen) str() string {
	return g.oneOf(`"v"`, `'v'`, "`v`", `""`, `"a\"b\\"`, `'it\'s'`, "`raw\\n`", `"\x41é\101\t"`, `"größe"`, `"a.b"`, `"日本"`)
}

func (g *promGen) number() string {
	return g.oneOf("1", "0", "2.5", ".5", "5.", "1e3", "1E-3", "0x1F", "0Xa", "1_000", "Inf", "inf", "+Inf", "-Inf", "NaN", "nan", "5m", "1h30m", "1w2d", "100ms", "1y", "07", "0b11", "0o7", "1.5e+2", "INF")
}

func (g *promGen) duration() string {
	return g.oneOf("5m", "1h", "1h30m", "90s", "1d", "1w", "1y", "300", "0x10", "1m30s500ms", "1e2", "1.5", "15ms")
}

func (g *promGen) matcher() {
	label := g.labelName()
	if g.chance(5) {
		label = g.oneOf(`"a.b"`, `'x y'`, `"le"`, "`raw`")
	}
	op := g.oneOf("=", "!=", "=~", "!~")
	g.put(label, op, g.str())
}

func (g *promGen) braces(named bool) {
	g.put("{")
	n := g.rng.IntN(4)
	if !named {
		n = 1 + g.rng.IntN(3)
		if g.chance(3) {
			g.put(g.oneOf(`"m"`, `"a metric"`, `'m.x'`))
		} else {
			g.put("job", "=", `"v"`)
		}
	}
	for i := range n {
		if i > 0 || !named {
			g.put(",")
		}
		g.matcher()
	}
	if n > 0 && g.chance(6) {
		g.put(",")
	}
	g.put("}")
}

func (g *promGen) selector() {
	if g.chance(5) {
		g.braces(false)
		return
	}
	g.put(g.metricName())
	if g.chance(2) {
		g.braces(true)
	}
}

// when writes offset and @.
func (g *promGen) when() {
	offset := func() { g.put(g.keyword("offset"), g.oneOf("", "-", "+")+g.duration()) }
	at := func() {
		g.put("@", g.oneOf("1", "1e3", "-5", "1609746000.5", "start()", "end()", "0x10", "+7", "start ( )"))
	}
	switch g.rng.IntN(9) {
	case 0:
		offset()
	case 1:
		at()
	case 2:
		offset()
		at()
	case 3:
		at()
		offset()
	}
}

func (g *promGen) matrix(depth int) {
	if depth > 0 && g.chance(3) {
		g.put("(")
		g.vector(depth - 1)
		g.put(")", "[", g.duration(), ":", g.oneOf("", g.duration()), "]")
	} else {
		g.selector()
		g.put("[", g.duration(), "]")
	}
	g.when()
}

func (g *promGen) labels() {
	g.put("(")
	n := g.rng.IntN(3)
	for i := range n {
		if i > 0 {
			g.put(",")
		}
		g.put(g.oneOf(g.labelName(), g.labelName(), `"x.y"`))
	}
	if n > 0 && g.chance(8) {
		g.put(",")
	}
	g.put(")")
}

func (g *promGen) grouping() {
	g.put(g.keyword(g.oneOf("by", "without")))
	g.labels()
}

func (g *promGen) aggregate(depth int) {
	name := g.oneOf("sum", "avg", "count", "min", "max", "group", "stddev", "stdvar", "topk", "bottomk", "quantile", "count_values")
	g.put(g.keyword(name))
	place := g.rng.IntN(3)
	if place == 0 {
		g.grouping()
	}
	g.put("(")
	switch name {
	case "topk", "bottomk", "quantile":
		g.scalar(depth - 1)
		g.put(",")
	case "count_values":
		g.put(`"v"`, ",")
	}
	g.vector(depth - 1)
	if g.chance(10) {
		g.put(",")
	}
	g.put(")")
	if place == 1 {
		g.grouping()
	}
}

var promFunctions = slices.Sorted(maps.Keys(promparser.Functions))

func (g *promGen) call(depth int) {
	f := promparser.Functions[promFunctions[g.rng.IntN(len(promFunctions))]]
	for FunctionKind(f.Name) == KindUnknown || f.Experimental || f.ReturnType != promparser.ValueTypeVector {
		f = promparser.Functions[promFunctions[g.rng.IntN(len(promFunctions))]]
	}
	g.put(f.Name, "(")
	n := len(f.ArgTypes)
	if f.Variadic > 0 {
		n -= g.rng.IntN(2)
	}
	for i := range n {
		if i > 0 {
			g.put(",")
		}
		switch f.ArgTypes[i] {
		case promparser.ValueTypeMatrix:
			g.matrix(depth - 1)
		case promparser.ValueTypeScalar:
			g.scalar(depth - 1)
		case promparser.ValueTypeString:
			g.put(g.str())
		default:
			g.vector(depth - 1)
		}
	}
	g.put(")")
}

func (g *promGen) scalar(depth int) {
	switch {
	case depth <= 0 || g.chance(3):
		g.put(g.oneOf("", "-", "+", "--") + g.number())
	case g.chance(3):
		g.put("(")
		g.scalar(depth - 1)
		g.put(")")
	case g.chance(3):
		g.put("scalar", "(")
		g.vector(depth - 1)
		g.put(")")
	default:
		g.scalar(depth - 1)
		op := g.oneOf("+", "-", "*", "/", "%", "^", "atan2", "==", ">")
		g.put(g.keyword(op))
		if op == "==" || op == ">" {
			g.put(g.keyword("bool"))
		}
		g.scalar(depth - 1)
	}
}

func (g *promGen) binary(depth int) {
	left := func() {
		if g.chance(6) {
			g.scalar(depth - 1)
		} else {
			g.vector(depth - 1)
		}
	}
	op := g.oneOf("+", "-", "*", "/", "%", "^", "atan2", "==", "!=", "<", ">", "<=", ">=", "and", "or", "unless")
	set := op == "and" || op == "or" || op == "unless"
	if set {
		g.vector(depth - 1)
	} else {
		left()
	}
	g.put(g.keyword(op))
	if isComparison(op) && g.chance(2) {
		g.put(g.keyword("bool"))
	}
	if g.chance(3) {
		g.put(g.keyword(g.oneOf("on", "ignoring")))
		g.labels()
		if !set && g.chance(2) {
			g.put(g.keyword(g.oneOf("group_left", "group_right")))
			if g.chance(2) {
				g.labels()
			}
		}
	}
	if !set && g.chance(6) {
		g.put(g.oneOf("fill", "fill_left", "fill_right"), "(", g.oneOf("0", "-1", "2.5", "Inf"), ")")
	}
	g.vector(depth - 1)
}

func (g *promGen) vector(depth int) {
	if depth <= 0 {
		g.selector()
		g.when()
		return
	}
	switch g.rng.IntN(8) {
	case 0, 1:
		g.binary(depth)
	case 2:
		g.put("(")
		g.vector(depth - 1)
		g.put(")")
	case 3:
		g.put("-")
		g.vector(depth - 1)
	case 4, 5:
		g.aggregate(depth)
	case 6:
		g.call(depth)
	default:
		g.selector()
		g.when()
	}
}

func (g *promGen) query() string {
	g.b.Reset()
	switch depth := 1 + g.rng.IntN(4); g.rng.IntN(8) {
	case 0:
		g.scalar(depth)
	case 1:
		g.matrix(depth)
	default:
		g.vector(depth)
	}
	if g.chance(2) {
		return strings.NewReplacer(" (", "(", "( ", "(", " )", ")", " {", "{", "{ ", "{", " }", "}", " [", "[", "[ ", "[", " ]", "]", " ,", ",").Replace(g.b.String())
	}
	return g.b.String()
}

// TestRandomPromQLIsAccepted checks that what the parser of Prometheus accepts parses here, as written and as Prometheus prints it.
func TestRandomPromQLIsAccepted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := &promGen{rng: rand.New(rand.NewPCG(seed, 0))}
	p := promparser.NewParser(promparser.Options{EnableBinopFillModifiers: true})
	tried := 0
	for range 3000 {
		q := g.query()
		e, err := p.ParseExpr(q)
		if err != nil || hexDuration.MatchString(q) {
			continue
		}
		tried++
		if _, err := Parse(e.String()); err != nil {
			t.Errorf("%q, which is how Prometheus prints %q: %s", e.String(), q, err)
		}
		checkFixpoint(t, q)
		checkPretty(t, q)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d queries tried", tried)
	if tried < 1000 {
		t.Errorf("%d queries tried; want at least 1000", tried)
	}
}

// hexDuration matches hexadecimal windows, steps and offsets, which MetricsQL does not know.
var hexDuration = regexp.MustCompile(`(?i)([[:]|offset)(\s|#.*)*[-+]?0x`)
