package relabel_test

import (
	"fmt"
	"strings"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/relabel"
)

// BenchmarkApply counts what a series costs that comes for the first time.
func BenchmarkApply(b *testing.B) {
	some := []string{
		"- {source_labels: [instance], regex: '(.+):(\\d+)', target_label: host}\n",
		"- {source_labels: [__name__, mode], regex: 'node_memory_.+;.*', action: drop}\n",
		"- {target_label: region, replacement: 'eu-{{env}}'}\n",
		"- {action: labeldrop, regex: 'tmp_.+'}\n",
		"- {if: '{job=\"kubelet\",cluster=~\"prod.*\"}', source_labels: [cpu], target_label: core}\n",
		"- {action: keep, source_labels: [job], regex: 'node-exporter|kubelet|cadvisor'}\n",
		"- {action: labelmap, regex: 'label_(.+)'}\n",
	}
	series := parseLabels(b, `node_cpu_seconds_total{cluster="production-eu",cpu="17",env="prod",instance="10.0.7.200:9100",job="node-exporter",mode="idle",series="123456"}`)
	run := func(name, text string) {
		b.Run(name, func(b *testing.B) {
			rules, err := relabel.Parse("benchmark", []byte(text))
			if err != nil {
				b.Fatal(err)
			}
			var labels []model.Label
			b.ReportAllocs()
			for b.Loop() {
				labels, _ = rules.Apply(append(labels[:0], series...))
			}
		})
	}
	for i, rule := range some {
		run(fmt.Sprintf("rule=%d", i), rule)
	}
	run("rules=20", strings.Join(append(append(some, some...), some[:6]...), ""))
}
