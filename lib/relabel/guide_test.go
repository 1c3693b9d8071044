package relabel_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"vmcluster/lib/relabel"
)

// guideFile has the table of actions between two comments.
const guideFile = "../../docs/relabeling.md"

var update = flag.Bool("update", false, "rewrite the table of actions in "+guideFile)

// example is a row of the table.
type example struct{ action, what, rules, series string }

func examples() []example {
	return []example{
		{"replace", "sets `target_label` to `replacement` where `regex` matches the joined values of `source_labels`; an empty result removes the label; `target_label` may have groups in it",
			"- source_labels: [instance]\n  regex: '(.+):(\\d+)'\n  target_label: host", `up{instance="h1:9100"}`},
		{"replace", "without `source_labels`: sets a label", "- target_label: dc\n  replacement: 'eu-{{zone}}'", `up{zone="a"}`},
		{"replace_all", "replaces every match of `regex`, which may be anywhere in the value; without a match nothing changes",
			"- action: replace_all\n  source_labels: [__name__]\n  regex: '[.-]'\n  replacement: _\n  target_label: __name__", `{__name__="a.b-c"}`},
		{"keep", "drops all series but those where `regex` matches the joined values; with `if`, also those which it does not select", "- action: keep\n  source_labels: [job]\n  regex: node|kubelet", `up{job="test"}`},
		{"drop", "drops series where `regex` matches the joined values", "- action: drop\n  if: 'up{env=~\"dev.*\"}'", `up{env="dev2"}`},
		{"keepequal", "drops series but those whose joined values are that of `target_label`", "- action: keepequal\n  source_labels: [port]\n  target_label: wanted", `up{port="1",wanted="2"}`},
		{"dropequal", "drops series whose joined values are that of `target_label`", "- action: dropequal\n  source_labels: [port]\n  target_label: wanted", `up{port="1",wanted="2"}`},
		{"keep_if_equal", "drops series but those whose `source_labels` have all the same value", "- action: keep_if_equal\n  source_labels: [a, b]", `up{a="1",b="1"}`},
		{"drop_if_equal", "drops series whose `source_labels` have all the same value", "- action: drop_if_equal\n  source_labels: [a, b]", `up{a="1",b="1"}`},
		{"keep_if_contains", "drops series but those whose `target_label` has the value of each of `source_labels` in it", "- action: keep_if_contains\n  source_labels: [zone]\n  target_label: host", `up{zone="eu",host="h1.eu"}`},
		{"drop_if_contains", "drops series whose `target_label` has the value of each of `source_labels` in it", "- action: drop_if_contains\n  source_labels: [zone]\n  target_label: host", `up{zone="eu",host="h1.eu"}`},
		{"keep_metrics", "drops series but those whose metric name `regex` matches; with `if`, also those which it does not select", "- action: keep_metrics\n  regex: [up, 'node_.+']", `go_info{a="b"}`},
		{"drop_metrics", "drops series whose metric name `regex` matches", "- action: drop_metrics\n  regex: 'go_.+'", `go_info{a="b"}`},
		{"hashmod", "sets `target_label` to a hash of the joined values, modulo `modulus`", "- action: hashmod\n  source_labels: [instance]\n  modulus: 4\n  target_label: shard", `up{instance="h1"}`},
		{"labelmap", "copies labels whose names `regex` matches to the names that `replacement` makes of them; of two that become one, the last by name wins",
			"- action: labelmap\n  regex: 'tag_(.+)'", `up{tag_team="x"}`},
		{"labelmap_all", "replaces every match of `regex` in all label names", "- action: labelmap_all\n  regex: '-'\n  replacement: _", `{__name__="up","a-b"="1"}`},
		{"labeldrop", "removes labels whose names `regex` matches", "- action: labeldrop\n  regex: 'tag_.+'", `up{tag_team="x",job="y"}`},
		{"labelkeep", "removes labels whose names `regex` does not match; the metric name is a label, too", "- action: labelkeep\n  regex: '__name__|job'", `up{tag_team="x",job="y"}`},
		{"lowercase", "sets `target_label` to the joined values in lower case", "- action: lowercase\n  source_labels: [env]\n  target_label: env", `up{env="Prod"}`},
		{"uppercase", "sets `target_label` to the joined values in upper case", "- action: uppercase\n  source_labels: [env]\n  target_label: env", `up{env="Prod"}`},
		{"graphite", "takes a metric name apart by `match`, where each `*` is any text without dots, and sets `labels`, which may have groups in them",
			"- action: graphite\n  match: 'servers.*.cpu.*'\n  labels:\n    __name__: cpu\n    host: $1\n    mode: ${2}", `{__name__="servers.h1.cpu.idle"}`},
	}
}

// actionTable renders the examples with what comes of them.
func actionTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| action | what it does | rule | before | after |\n|---|---|---|---|---|\n")
	for _, e := range examples() {
		cell := func(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
		rule := strings.ReplaceAll(cell(e.rules), " ", "&nbsp;")
		after := outcome(t, e.rules, e.series)
		if after != "dropped" {
			after = "`" + cell(after) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | <code>%s</code> | `%s` | %s |\n", e.action, cell(e.what), strings.ReplaceAll(rule, "\n", "<br>"), cell(labelsText(parseLabels(t, e.series))), after)
	}
	return b.String()
}

func TestGuide(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range examples() {
		seen[e.action] = true
	}
	for _, action := range relabel.ActionNames() {
		if !seen[action] {
			t.Errorf("action %s has no example", action)
		}
	}
	text, err := os.ReadFile(guideFile)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- actions: written by go test ./lib/relabel -run TestGuide -update -->\n\n", "\n<!-- end of actions -->"
	before, rest, ok := bytes.Cut(text, []byte(begin))
	table, after, okEnd := bytes.Cut(rest, []byte(end))
	if !ok || !okEnd {
		t.Fatalf("%s has no comments around the table", guideFile)
	}
	want := actionTable(t)
	if *update {
		all := string(before) + begin + want + end + string(after)
		if err := os.WriteFile(guideFile, []byte(all), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(table) != want {
		t.Errorf("the table of actions in %s is not what comes of the examples; run with -update", guideFile)
	}
}
