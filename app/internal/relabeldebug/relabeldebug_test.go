package relabeldebug

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func serve(t *testing.T, kind Kind, args ...string) *httptest.ResponseRecorder {
	t.Helper()
	form := url.Values{}
	for i := 0; i < len(args); i += 2 {
		form.Set(args[i], args[i+1])
	}
	w := httptest.NewRecorder()
	if err := Serve(w, form, kind); err != nil {
		t.Fatal(err)
	}
	return w
}

// answer is the JSON as clients read it.
type answer struct {
	Status, Error string
	Steps         []struct {
		InLabels, OutLabels, Rule string
	}
	OriginalLabels, ResultingLabels string
}

func TestJSON(t *testing.T) {
	const rules = "- {target_label: __tmp, replacement: '<x>'}\n- source_labels: [a, b]\n  regex: [q, 'y;.*']\n  target_label: a\n  replacement: z\n"
	for _, c := range []struct {
		kind   Kind
		rules  string
		steps  int
		result string
	}{
		{Metrics, rules, 3, "m{a=&quot;z&quot;, b=&quot;&lt;b&gt;&quot;}"},
		{Targets, rules, 3, "{a=&quot;z&quot;, b=&quot;&lt;b&gt;&quot;}"},
		{Metrics, "", 0, "m{a=&quot;y&quot;, b=&quot;&lt;b&gt;&quot;}"},
		{Metrics, "- {action: keep, if: x}\n" + rules, 1, "{}"},
	} {
		w := serve(t, c.kind, "metric", `m{b="<b>",a="y"}`, "relabel_configs", c.rules, "format", "json")
		var a answer
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatal(err, w.Body)
		}
		if a.Status != "success" || len(a.Steps) != c.steps || a.ResultingLabels != c.result || a.OriginalLabels != "m{a=&quot;y&quot;, b=&quot;&lt;b&gt;&quot;}" {
			t.Errorf("%+v; want %d steps to %s", a, c.steps, c.result)
		}
		if strings.Contains(w.Body.String(), "<") {
			t.Errorf("a tag in %s", w.Body)
		}
		if c.steps == 3 && (!strings.Contains(a.Steps[1].InLabels, `<span style="font-weight:bold;color:#D15757">a=&quot;y&quot;</span>`) ||
			!strings.Contains(a.Steps[1].OutLabels, `<span style="font-weight:bold;color:#4495e0">a=&quot;z&quot;</span>`) || !strings.HasPrefix(a.Steps[1].Rule, "source_labels: [a, b]\n")) {
			t.Errorf("step %+v", a.Steps[1])
		}
	}
	for _, args := range [][]string{{"metric", "{bad", "relabel_configs", ""}, {"metric", "m", "relabel_configs", "- {action: nosuch}"}, {"metric", "", "relabel_configs", "x"}} {
		if w := serve(t, Metrics, append(args, "format", "json")...); !strings.HasPrefix(w.Body.String(), `{"status": "error","error":"Error: cannot parse `) {
			t.Errorf("%q: %s", args, w.Body)
		}
	}
}

func TestPage(t *testing.T) {
	const script = "<script>alert(1)</script>"
	for _, kind := range []Kind{Metrics, Targets} {
		w := serve(t, kind, "metric", `m{a="`+script+`"}`, "relabel_configs", "- {target_label: b, replacement: '"+script+"'}")
		body := w.Body.String()
		if strings.Contains(body, script) || !strings.Contains(body, "b=&quot;&lt;script&gt;") || !strings.Contains(body, "<table>") {
			t.Errorf("page %s", body)
		}
		if strings.Contains(body, "src=") || strings.Contains(body, "href=") {
			t.Error("the page loads something")
		}
		if body := serve(t, kind).Body.String(); strings.Contains(body, "<table>") || strings.Contains(body, `class="fault"`) {
			t.Errorf("empty page %s", body)
		}
		if body := serve(t, kind, "metric", script, "relabel_configs", script).Body.String(); strings.Contains(body, script) || !strings.Contains(body, `class="fault"`) {
			t.Errorf("page with a fault %s", body)
		}
	}
}
