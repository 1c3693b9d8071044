package metricsql

import (
	"slices"
	"strings"
	"testing"
)

// checkPretty checks that the pretty text has the words of the query but for commas before closing brackets, keeps comments,
// means the same, and is not changed by another pass.
func checkPretty(t *testing.T, q string) {
	t.Helper()
	pretty, err := Prettify(q)
	if err != nil {
		t.Errorf("Prettify(%q): %s", q, err)
		return
	}
	want, err := ExpandWith(q)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ExpandWith(pretty); err != nil || got != want {
		t.Errorf("%q: pretty text %q means %q, %v; want %q", q, pretty, got, err, want)
	}
	if a, b := wordsOf(q), wordsOf(pretty); !slices.Equal(a, b) {
		t.Errorf("%q has the words %q, and its pretty text %q", q, a, b)
	}
	if a, b := strings.Count(q, "#"), strings.Count(pretty, "#"); a != b {
		t.Errorf("%q: pretty text %q has other comments", q, pretty)
	}
	if again, err := Prettify(pretty); err != nil || again != pretty {
		t.Errorf("%q: pretty text\n%s\nbecomes\n%s\n%v", q, pretty, again, err)
	}
}

func wordsOf(q string) []string {
	l := lexer{src: q}
	var words []string
	for t := l.next(); t.kind != tokEOF; t = l.next() {
		text := q[t.pos:t.end]
		if n := len(words); n > 0 && strings.Contains(")}", text) && words[n-1] == "," {
			words = words[:n-1]
		}
		l.inWindow = text == "[" || l.inWindow && text != "]"
		words = append(words, text)
	}
	return words
}

func TestPrettify(t *testing.T) {
	for _, tc := range []struct{ q, want string }{
		{`WITH (a=b) a+1`, `WITH (a = b) a + 1`},
		{`sum(rate(x[5m])) by (y) + 1`, `sum(rate(x[5m])) by(y) + 1`},
		{` m { a = "b" , c =~ "d" or e!="f" } [ 5m : 1i ] offset - 5m @ ( end( ) - 1h )`, `m{a="b",c=~"d" or e!="f"}[5m:1i] offset -5m @ (end() - 1h)`},
		{`a and ON (x, y) b or-c`, `a and ON(x,y) b or -c`},
		{`a>bool(b)default(c)`, `a > bool (b) default (c)`},
		{`sum by(a)(x,y,)limit 3`, `sum by(a) (x, y) limit 3`},
		{`1h-30m+(2*-3)`, `1h-30m + (2 * -3)`},
		{"m # a metric\n+ # sum\n n", "# a metric\n# sum\nm + n"},
		{"# one\nm\n# two", "# one\nm\n# two"},
		{
			`sum(rate(a_long_metric_name{label="value"}[5m])) by (x) / (count(another_long_metric_name{label="value"}) + on (x) group_left () sum(third_metric_name)) > 5`,
			`sum(rate(a_long_metric_name{label="value"}[5m])) by(x)
/
(
  count(another_long_metric_name{label="value"})
  + on(x) group_left()
  sum(third_metric_name)
)
>
5`,
		},
		{
			`histogram_quantile(0.99, sum(rate(http_request_duration_seconds_bucket{job=~"$job", instance=~"$instance", code!~"5.."}[5m])) by (le, job)) keep_metric_names`,
			`histogram_quantile(
  0.99,
  sum(
    rate(
      http_request_duration_seconds_bucket{
        job=~"$job",
        instance=~"$instance",
        code!~"5.."
      }[5m]
    )
  ) by(le,job)
) keep_metric_names`,
		},
		{
			`WITH (common = {job="api", env=~"production"}, # for all
  share(part, whole) = sum(part{common}) by (instance) / on (instance) sum(whole{common}) by (instance)) share(errors_total, requests_total)`,
			`# for all
WITH (
  common = {job="api",env=~"production"},
  share(part, whole) =
    sum(part{common}) by(instance)
    / on(instance)
    sum(whole{common}) by(instance)
)
share(errors_total, requests_total)`,
		},
	} {
		got, err := Prettify(tc.q)
		if err != nil || got != tc.want {
			t.Errorf("%s: got\n%s\n%v; want\n%s", tc.q, got, err, tc.want)
		}
		checkPretty(t, tc.q)
	}
	if _, err := Prettify("sum("); err == nil {
		t.Error("a query which does not parse is accepted")
	}
}
