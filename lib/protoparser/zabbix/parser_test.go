package zabbix

import (
	"fmt"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/parsertest"
)

func newParser(t testing.TB, args ...string) (*Parser, *metrics.Set) {
	t.Helper()
	var c Config
	in, set := parsertest.NewIntake(t, args, c.RegisterFlags)
	return New(in, c), set
}

const head = `{"host":{"host":"h","name":"H 1"},"name":"CPU load","clock":1717200000,`

// TestLines writes each line between two others, the second time as a series which is known.
func TestLines(t *testing.T) {
	for line, want := range map[string]string{
		`{"host": {"host": "zh", "name": "Z"}, "groups": ["g1"], "item_tags": [{"tag": "comp", "value": "cpu"}, {"tag": "empty", "value": ""}], "itemid": 44457, "name": "CPU load", "clock": 1717200000, "ns": 500000000, "value": 0.25, "type": 0}`: `CPU load{host="zh",hostname="Z",tag_comp="cpu"}@1717200000500=0.25`,
		head + `"ns":999999999,"value":18446744073709551615,"type":3}`:                                                                                  `CPU load{host="h",hostname="H 1"}@1717200000999=1.8446744073709552e+19`,
		head + `"value":"7","type":3,"groups":null,"item_tags":null}`:                                                                                   `CPU load{host="h",hostname="H 1"}@1717200000000=7`,
		head + `"value":7,"type":3,"item_tags":[{"tag":"a","value":"1"},{"tag":"a","value":""},{"value":"2","tag":"a"},{"tag":"\"","value":"\u00e4"}]}`: `CPU load{host="h",hostname="H 1",tag_"="ä",tag_a="2"}@1717200000000=7`,
		`{bad`:                         "",
		`5`:                            "",
		head + `"value":7}`:            "",
		head + `"value":"x","type":1}`: "", // a text
		head + `"value":"x","type":3}`: "",
		head + `"type":3}`:             "",
		head + `"value":7,"type":3,"ns":1000000000}`:                             "",
		head + `"value":7,"type":3,"ns":-1}`:                                     "",
		head + `"value":7,"type":3,"item_tags":[5]}`:                             "",
		head + `"value":7,"type":3,"item_tags":{}}`:                              "",
		`{"host":{"host":"h"},"name":5,"clock":1717200000,"value":7,"type":3}`:   "",
		`{"host":{"host":"h"},"clock":1717200000,"value":7,"type":3}`:            "",
		`{"host":{"name":"h"},"name":"x","clock":1717200000,"value":7,"type":3}`: "",
		`{"host":"h","name":"x","clock":1717200000,"value":7,"type":3}`:          "",
		`{"name":"x","value":1}`:                                                 "",
		`{"host":{"host":"h"},"name":"x","clock":"now","value":7,"type":3}`:      "",
		`{"host":` + strings.Repeat("[", 1000):                                   "",
	} {
		p, set := newParser(t)
		all := `CPU load{host="h",hostname="H 1"}@1717200000000=1 `
		if want != "" {
			all += want + " "
		}
		all += `CPU load{host="h",hostname="H 1"}@1717200000000=2`
		if want == "" {
			all += " !1"
		}
		kind := parsertest.CheckTwice(t, p.Parse, protoparser.Request{}, head+"\"value\":1,\"type\":0}\n"+line+"\r\n\n"+head+`"value":2,"type":0}`, all)
		if n := set.Counter(`vm_rows_invalid_total{type="zabbixconnector"}`).Get(); kind != errkind.OK || (n == 2) != (want == "") {
			t.Errorf("%s: %d invalid lines counted, an error of kind %v", line, n, kind)
		}
	}
}

func TestFlags(t *testing.T) {
	const line = head + `"value":1,"type":0,"groups":["Linux","a b"],"item_tags":[{"tag":"t","value":"1"},{"tag":"e","value":""},{"tag":"t","value":"2"}]}`
	for arg, want := range map[string]string{
		"":                                     `CPU load{host="h",hostname="H 1",tag_t="2"}@1717200000000=1`,
		"-zabbixconnector.addGroupsValue=yes":  `CPU load{group_Linux="yes",group_a b="yes",host="h",hostname="H 1",tag_t="2"}@1717200000000=1`,
		"-zabbixconnector.addEmptyTagsValue=x": `CPU load{host="h",hostname="H 1",tag_e="x",tag_t="2"}@1717200000000=1`,
		"-zabbixconnector.addDuplicateTagsSeparator=,": `CPU load{host="h",hostname="H 1",tag_t="1,2"}@1717200000000=1`,
		"-zabbixconnector.maxLineLen=100":              `!1`,
		"-usePromCompatibleNaming":                     `CPU_load{host="h",hostname="H 1",tag_t="2"}@1717200000000=1`,
	} {
		p, _ := newParser(t, strings.Fields(arg)...)
		parsertest.CheckTwice(t, p.Parse, protoparser.Request{}, line, want)
	}
	p, _ := newParser(t, "-zabbixconnector.addGroupsValue=yes")
	parsertest.CheckTwice(t, p.Parse, protoparser.Request{}, head+`"value":1,"type":0,"groups":[5]}`, "!1")
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f, "-zabbixconnector.addGroupsValue=yes", "-zabbixconnector.addDuplicateTagsSeparator=;")
	parsertest.Fuzz(f, p.Parse, protoparser.Request{}, head+`"ns":5,"value":1,"type":0,"groups":["a"],"item_tags":[{"tag":"a","value":"\""}]}`, "{}\n[]\n5", `{"type":0,"name":"","host":{},"clock":1}`)
}

func BenchmarkParse(b *testing.B) {
	const lines = 5000
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, `{"host":{"host":"web-%d.example.com","name":"Web server %d"},"groups":["Linux servers","Web"],"item_tags":[{"tag":"component","value":"cpu"}],"itemid":%d,"name":"CPU idle time","clock":1717200000,"ns":123456789,"value":%d.5,"type":0}`+"\n", i, i, 40000+i, i)
	}
	p, _ := newParser(b)
	parsertest.Benchmark(b, p.Parse, protoparser.Request{}, text.String(), lines)
}
