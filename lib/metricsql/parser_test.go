package metricsql

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
)

// readQueries reads a file with one JSON string per line.
func readQueries(t testing.TB, name string) []string {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var queries []string
	for s := bufio.NewScanner(f); s.Scan(); {
		var q string
		if err := json.Unmarshal(s.Bytes(), &q); err != nil {
			t.Fatalf("cannot read line %s: %s", s.Text(), err)
		}
		queries = append(queries, q)
	}
	return queries
}

func TestAcceptedQueries(t *testing.T) {
	queries := readQueries(t, "accept.txt")
	if len(queries) < 2500 {
		t.Fatalf("%d queries; want more", len(queries))
	}
	for _, q := range queries {
		checkFixpoint(t, q)
		checkPretty(t, q)
	}
}

func TestRejectedQueries(t *testing.T) {
	for _, q := range readQueries(t, "reject.txt") {
		e, err := Parse(q)
		if err == nil {
			t.Errorf("Parse(%q) = %s; want an error", q, String(e))
			continue
		}
		if errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), "at line ") {
			t.Errorf("Parse(%q): kind %v, text %s", q, errkind.Of(err), err)
		}
	}
}

// checkFixpoint checks that the text of the tree gives an equal tree and the same text.
func checkFixpoint(t *testing.T, q string) {
	t.Helper()
	e, err := Parse(q)
	if err != nil {
		t.Errorf("Parse(%q): %s", q, err)
		return
	}
	text := String(e)
	again, err := Parse(text)
	if err != nil {
		t.Errorf("Parse(%q), which is the text of %q: %s", text, q, err)
		return
	}
	if got := String(again); got != text {
		t.Errorf("text of %q is %q, and of that %q", q, text, got)
	}
	if a, b := shape(e), shape(again); a != b {
		t.Errorf("tree of %q is\n%s; the tree of its text %q is\n%s", q, a, text, b)
	}
}

// shape renders a tree without positions and literal texts.
func shape(e Expr) string {
	var b strings.Builder
	writeShape(&b, reflect.ValueOf(e))
	return b.String()
}

func writeShape(b *strings.Builder, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			b.WriteString("nil")
			return
		}
		writeShape(b, v.Elem())
	case reflect.Struct:
		b.WriteString(v.Type().Name() + "{")
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "base" && name != "Text" {
				b.WriteString(name + ":")
				writeShape(b, v.Field(i))
				b.WriteString(" ")
			}
		}
		b.WriteString("}")
	case reflect.Slice:
		b.WriteString("[")
		for i := range v.Len() {
			writeShape(b, v.Index(i))
			b.WriteString(" ")
		}
		b.WriteString("]")
	default:
		text, _ := json.Marshal(v.String())
		switch {
		case v.CanFloat():
			b.WriteString(String(&NumberExpr{Value: v.Float()}))
		case v.CanUint(), v.CanInt(), v.Kind() == reflect.Bool:
			b.WriteString(strings.Trim(reflectText(v), " "))
		default:
			b.Write(text)
		}
	}
}

func reflectText(v reflect.Value) string {
	text, _ := json.Marshal(v.Interface())
	return string(text)
}

// TestTemplatesDoNotMultiplyTexts checks that queries of some kilobytes whose templates double texts, filters or
// labels are refused before they fill the memory.
func TestTemplatesDoNotMultiplyTexts(t *testing.T) {
	double := func(first, rest string) string {
		var b strings.Builder
		b.WriteString("with (" + first)
		for i := range 12 {
			fmt.Fprintf(&b, ", "+rest, i+1, i)
		}
		return b.String() + ") t12"
	}
	filters := strings.Repeat(`a="b",`, 500)
	for name, query := range map[string]string{
		"strings":       double(`t0 = "`+strings.Repeat("x", 8000)+`"`, "t%[1]d = t%[2]d + t%[2]d"),
		"concatenation": "with (s = \"" + strings.Repeat("x", 8000) + "\", f() = {a=" + strings.Repeat("s+", 2000) + "s}) f() + f() + f()",
		"filters":       double("t0() = {"+filters+"}", "t%[1]d() = t%[2]d() + t%[2]d()") + "()",
		"prefixes":      double("m = {"+filters+`}, t0() = m{c="d"}`, "t%[1]d() = t%[2]d() + t%[2]d()") + "()",
		"labels":        double("t0() = sum(m) by ("+strings.Repeat("a,", 2000)+"a)", "t%[1]d() = t%[2]d() + t%[2]d()") + "()",
		"literals":      double(`t0() = "`+strings.Repeat("x", 8000)+`"`, "t%[1]d() = t%[2]d() + t%[2]d()") + "()",
	} {
		if _, err := Parse(query); errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), "more than 200000 parts") {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}
