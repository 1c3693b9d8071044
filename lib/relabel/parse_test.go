package relabel_test

import (
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/relabel"
)

// TestFaults checks that errors say where the fault is and what to do.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"- {target_label: a}\n- {action: nosuch}", `rule 2 in line 2: cannot use action "nosuch": want one of replace, replace_all, keep`},
		{"- target_label: a\n  regexp: x", `rule 1 in line 1: cannot read field "regexp" in line 2: there is no such field; rules have if, action`},
		{"- {source_labels: [a], target_label: b, regex: '('}", `cannot use regex "(": fix it`},
		{"- {source_labels: [a], target_label: b, regex: [x, '(']}", `cannot use regex "(": fix it`},
		{"- {action: hashmod, source_labels: [a], target_label: b}", "cannot use action hashmod without modulus; add it"},
		{"- {action: hashmod, source_labels: [a], target_label: b, modulus: 0}", `cannot read field "modulus" in line 1: it is "0"; want a whole number above 0`},
		{"- {action: hashmod, source_labels: [a], target_label: b, modulus: 5, hash: crc}", `cannot use hash "crc": want xxhash, the default, or md5, which Prometheus has`},
		{"- {action: keep, source_labels: [a], hash: md5}", "cannot use field hash with action keep; remove it"},
		{"- {action: keep, regex: x}", "cannot use action keep without source_labels; add it"},
		{"- {action: uppercase}", "cannot use action uppercase without source_labels and target_label; add it"},
		{"- {action: keep_if_equal, source_labels: [a]}", "name at least two"},
		{"- {action: graphite, match: a.*, labels: {b: $1}, regex: x}", "cannot use field regex with action graphite; remove it"},
		{"- {action: graphite, match: a.*, labels: [b]}", `cannot read field "labels" in line 1: want labels such as job: $1`},
		{"- {action: keep, source_labels: a}", "want a list such as [job, instance]"},
		{"- {action: keep, source_labels: []}", "the list is empty; leave the field out, or name something"},
		{"- {action: keep, source_labels: [a, '']}", "an entry in line 1 is not a text, or empty"},
		{"- {target_label: [a]}", "want one text"},
		{"- {action: drop, if: 'sum(a)'}", `cannot use if "sum(a)": want a selector such as foo{bar="baz"}: it is an expression`},
		{"- {action: drop, if: ['a', 'b{']}", `cannot use if "b{": want a selector`},
		{"- {action: drop, if: 'a{b=~\"(\"}'}", `cannot use if "a{b=~\"(\"}"`},
		{"- {target_label: a, target_label: b}", `mapping key "target_label" already defined`},
		{"target_label: a", "want a list of rules, each beginning with a dash"},
		{"- a", "want fields such as action: drop"},
		{"-", "it has no fields; remove its dash"},
		{"- {", "fix the YAML"},
		{"- {target_label: a}\n---\n- {target_label: b}", "there are 2 documents; write one list of rules"},
	} {
		rules, err := relabel.Parse("rules.yml", []byte(c.text))
		if err == nil {
			t.Errorf("%q is taken for %d rules", c.text, rules.Len())
			continue
		}
		if errkind.Of(err) != errkind.BadRequest || !strings.HasPrefix(err.Error(), "cannot parse relabelling rules of rules.yml: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %q; want %q in it", c.text, err, c.want)
		}
	}
}

// TestForms checks what may be written in several ways.
func TestForms(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "[]", "---\n", "~"} {
		rules, err := relabel.Parse("test", []byte(text))
		if err != nil || rules.Len() != 0 {
			t.Errorf("%q: %d rules, error %v", text, rules.Len(), err)
		}
		labels, kept := rules.Apply([]model.Label{{Name: "__x", Value: "y"}})
		if len(labels) != 1 || !kept {
			t.Errorf("no rules change labels to %v", labels)
		}
	}
	for _, c := range []struct{ rules, series, want string }{
		{"- {target_label: a, replacement: ~, source_labels: [b], regex: ~, if: ~, separator: ~, action: ~}", `m{b="c"}`, `m{a="c",b="c"}`},
		{"- &x {target_label: a, replacement: y, if: 'm'}\n- {<<: *x, target_label: b}\n- *x", `m`, `m{a="y",b="y"}`},
		{"- {action: drop, source_labels: [a], regex: [&x y, *x]}", `m{a="y"}`, "dropped"},
		{`- {source_labels: [a], regex: ['\Qx.y', z], target_label: b}`, `m{a="x.y"}`, `m{a="x.y"}`},
		{`- {source_labels: [a], regex: ['(\Qx.y\E)', z], target_label: b}`, `m{a="x.y"}`, `m{a="x.y",b="x.y"}`},
		{`- {target_label: a, replacement: '{{b}}{{}}{{b}'}`, `m{b="$1"}`, `m{a="$1{{}}{{b}",b="$1"}`},
		{`- {target_label: a, source_labels: [b], replacement: '{{c}}-$1'}`, `m{b="{{c}}",c="$1"}`, `m{a="$1-{{c}}",b="{{c}}",c="$1"}`},
		{`- {action: hashmod, hash: md5, source_labels: [a, b], modulus: 1000, target_label: h}`, `m{a="x.y.z",b="y"}`, `m{a="x.y.z",b="y",h="244"}`},
		{`- {action: labeldrop, regex: '.*'}`, `m{a="b"}`, "dropped"},
		{`- {action: labelmap_all, regex: '^', replacement: '__'}`, `m{a="b"}`, "dropped"},
	} {
		if got := outcome(t, c.rules, c.series); got != c.want {
			t.Errorf("%s\nof %s make %s; want %s", c.rules, c.series, got, c.want)
		}
	}
}

func TestLabels(t *testing.T) {
	for _, text := range []string{"", "{", "sum(a)", `a{b!="c"}`, `{a="b" or c="d"}`} {
		if labels, err := relabel.ParseLabels(text); errkind.Of(err) != errkind.BadRequest {
			t.Errorf("%q is taken for %v, error %v", text, labels, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"- {action: drop, if: 'a{b=\"c\"}'}", "- {action: graphite, match: 'a.*', labels: {b: '${1}$$'}}", "- &x {target_label: 'a$1', replacement: '{{b}}$1'}\n- *x",
		"- action: hashmod\n  source_labels: [a]\n  modulus: 5\n  target_label: b", "- {action: labelmap_all, regex: [a, '\\Qb'], replacement: ''}"} {
		f.Add(text, "x.y", "z$1{{a}}")
	}
	f.Fuzz(func(t *testing.T, text, a, b string) {
		rules, err := relabel.Parse("fuzz", []byte(text))
		if err != nil {
			return
		}
		labels := []model.Label{{Name: "a", Value: a}, {Name: "__name__", Value: b}, {Name: "b", Value: "c"}}
		steps := rules.Steps(labels)
		out, kept := rules.Apply(append([]model.Label{}, labels...))
		again, keptAgain := rules.Apply([]model.Label{labels[2], labels[0], labels[1]})
		if kept != keptAgain || labelsText(out) != labelsText(again) {
			t.Errorf("%v and %v, by the order of labels", out, again)
		}
		for _, l := range out {
			if relabel.IsHidden(l.Name) && rules.Len() > 0 || l.Name == "" || l.Value == "" && rules.Len() > 0 {
				t.Errorf("label %q=%q is left", l.Name, l.Value)
			}
		}
		if len(steps) > rules.Len() || kept && len(steps) < rules.Len() {
			t.Errorf("%d steps of %d rules", len(steps), rules.Len())
		}
	})
}

// FuzzTemplate checks that a template with no labels in it does what an expression does with it, and that values are put in as they are.
func FuzzTemplate(f *testing.F) {
	f.Add("$1-${w}$$", "x:y")
	f.Add("{{a}}$2{{b}}", "$1:{{b}}")
	f.Fuzz(func(t *testing.T, template, value string) {
		if strings.Contains(template, "\x00") {
			return
		}
		relabel.CheckTemplate(t, template, value)
	})
}
