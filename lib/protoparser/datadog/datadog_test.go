package datadog

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

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

func TestV1(t *testing.T) {
	for series, want := range map[string]string{
		`{"metric":"m","points":[[1717200000,20],[1717200015.5,-2e3]],"host":"h","device":"sda","tags":["env:prod","bare","a:b:c"],"type":"rate","interval":20}`: `m{a="b:c",bare="no_label_value",device="sda",env="prod",host="h"}@1717200000000=20 m{a="b:c",bare="no_label_value",device="sda",env="prod",host="h"}@1717200015500=-2000`,
		`{"tags":["x:y"],"points":[["1717200000","1.5"]],"metric":"m"}`:                                                                                          `m{x="y"}@1717200000000=1.5`,
		`{"metric":"m","points":[[1717200000,1]],"host":"","device":null,"tags":null}`:                                                                           `m@1717200000000=1`,
		`{"metric":"m","points":[[1717200000,1]],"host":"h","tags":["host:other","e:","d:1","d:2"]}`:                                                             `m{d="2",exported_host="other",host="h"}@1717200000000=1`,
		`{"metric":"m","points":[[1717200000,1]],"tags":["__name__:x","q\"\\:\u00e4"]}`:                                                                          `m{q"\="ä"}@1717200000000=1`,
		`{"metric":"m","points":[]},{"metric":"m","points":null},{"metric":"m"},{"points":[[1717200000,1]],"metric":"n"}`:                                        `n@1717200000000=1`,
		`{"metric":"m","points":[[1717200000,null],[1717200001,1]]}`:                                                                                             `m@1717200001000=1`,
		`5,"x",[{}],null,{"metric":"m","points":[[1717200000,1]]}`:                                                                                               `m@1717200000000=1 !4`,
		`{"metric":5,"points":[[1717200000,1]]}`:                                                                                                                 `!1`,
		`{"metric":"m","points":[[1717200000]]}`:                                                                                                                 `!1`,
		`{"metric":"m","points":[[1717200000,1,2]]}`:                                                                                                             `!1`,
		`{"metric":"m","points":[5]}`:                                                                                                                            `!1`,
		`{"metric":"m","points":{}}`:                                                                                                                             `!1`,
		`{"metric":"m","points":[[1717200000,"x"]]}`:                                                                                                             `!1`,
		`{"metric":"m","points":[["",1]]}`:                                                                                                                       `!1`,
		`{"metric":"m","points":[[1e300,1]]}`:                                                                                                                    `!1`,
		`{"metric":"m","points":[[1717200000,[1]]]}`:                                                                                                             `!1`,
		`{"metric":"m","points":[[1717200000,1]],"tags":[5]}`:                                                                                                    `!1`,
		`{"metric":"m","points":[[1717200000,1]],"tags":"x"}`:                                                                                                    `!1`,
		`{"metric":"m","points":[[1717200000,1]],"host":{"x":[]}},{"metric":"n","points":[[1717200000,1]]}`:                                                      `n@1717200000000=1 !1`,
		`{"metric":"m","points":[[1717200000,1]],"tags":[` + strings.Repeat(`"",`, protoparser.MaxLabels) + `"a"]}`:                                              `!1`,
	} {
		p, set := newParser(t)
		if kind := parsertest.CheckTwice(t, p.ParseV1, protoparser.Request{}, `{"series":[`+series+`]}`, want); kind != errkind.OK {
			t.Errorf("%.200s: an error of kind %v", series, kind)
		}
		if n := set.Counter(`vm_rows_invalid_total{type="datadogv1"}`).Get(); (n > 0) != strings.Contains(want, "!") {
			t.Errorf("%.200s: %d invalid series counted", series, n)
		}
	}
}

func TestV2(t *testing.T) {
	for series, want := range map[string]string{
		`{"metric":"m","type":1,"points":[{"timestamp":1717200000,"value":0.5},{"value":1,"timestamp":1717200001}],"resources":[{"type":"host","name":"h"},{"name":"y","type":"x"}],"tags":["env:prod"],"source_type_name":"src","device":"sda"}`: `m{env="prod",host="h",source_type_name="src",x="y"}@1717200000000=0.5 m{env="prod",host="h",source_type_name="src",x="y"}@1717200001000=1`,
		`{"metric":"m","points":[{"timestamp":1717200000,"value":null}]},{"metric":"m","points":[{"timestamp":1717200000,"value":1}],"resources":null,"source_type_name":null}`:                                                                   `m@1717200000000=1`,
		`{"metric":"m","points":[{"timestamp":1717200000,"value":1}],"resources":[{"type":"x"}]}`:                                                                                                                                                 `m@1717200000000=1`,
		`{"metric":"m","points":[{"value":1}]}`:                                                    `!1`,
		`{"metric":"m","points":[{"timestamp":1717200000}]}`:                                       `!1`,
		`{"metric":"m","points":[[1717200000,1]]}`:                                                 `!1`,
		`{"metric":"m","points":[{"timestamp":1717200000,"value":1}],"resources":["h"]}`:           `!1`,
		`{"metric":"m","points":[{"timestamp":1717200000,"value":1}],"resources":[{"type":5}]}`:    `!1`,
		`{"metric":"m","points":[{"timestamp":1717200000,"value":1}],"source_type_name":["h"]}`:    `!1`,
		`{"metric":"m","points":[{"timestamp":1717200000,"value":1}],"resources":[{"a":[1,{}]}]}`:  `m@1717200000000=1`,
		`[],{"metric":"m","points":[{"timestamp":1717200000,"value":1,"x":[[]]}],"unit":{"a":[]}}`: `m@1717200000000=1 !1`,
	} {
		p, _ := newParser(t)
		if kind := parsertest.CheckTwice(t, p.ParseV2, protoparser.Request{}, `{"x":[{}],"series":[`+series+`]}`, want); kind != errkind.OK {
			t.Errorf("%.200s: an error of kind %v", series, kind)
		}
	}
}

func TestBodies(t *testing.T) {
	p, set := newParser(t, "-datadog.maxInsertRequestSize=1000")
	for body, want := range map[string]errkind.Kind{
		``: errkind.BadRequest, `{bad`: errkind.BadRequest, `[1]`: errkind.BadRequest, `{}`: errkind.OK, `{"series":null}`: errkind.OK, `{"series":[{"metric":"m","points":[[1,1]]}]`: errkind.BadRequest,
		"{" + strings.Repeat(" ", 1000) + "}": errkind.TooLarge, `{"series":` + strings.Repeat("[", 200): errkind.BadRequest,
	} {
		if kind := parsertest.CheckTwice(t, p.ParseV1, protoparser.Request{}, body, ""); kind != want {
			t.Errorf("%.50s: an error of kind %v", body, kind)
		}
	}
	parsertest.CheckTwice(t, p.ParseV1, protoparser.Request{}, `{"series":{}}`, "!1")
	for name, want := range map[string]int{"unmarshal": 10, "read": 2} {
		if got := set.Counter("vm_protoparser_" + name + `_errors_total{type="datadogv1"}`).Get(); got != uint64(want) {
			t.Errorf("%d %s errors counted", got, name)
		}
	}
}

// TestSameSeries: a series is known whichever way it comes.
func TestSameSeries(t *testing.T) {
	p, set := newParser(t)
	parsertest.CheckTwice(t, p.ParseV1, protoparser.Request{}, `{"series":[{"metric":"m","points":[[1717200000,1]],"tags":["a:b"]}]}`, `m{a="b"}@1717200000000=1`)
	before := set.Counter(`vm_cache_misses_total{type="insert/series"}`).Get()
	parsertest.CheckTwice(t, p.ParseV2, protoparser.Request{}, `{"series":[{"metric":"m","points":[{"timestamp":1717200000,"value":1}],"tags":["a:b"]}]}`, `m{a="b"}@1717200000000=1`)
	if got := set.Counter(`vm_cache_misses_total{type="insert/series"}`).Get(); before != 1 || got != before {
		t.Errorf("%d misses, then %d", before, got)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"a.b_c9": "a.b_c9", "a-b c": "a_b_c", "a__b--c": "a_b_c", "a_._b": "a.b", "a-.-b": "a.b", "a..b": "a..b", "_a_": "_a_", "äb": "_b", ".a": ".a", "a_-_.b": "a.b", "a:b": "a_b",
	} {
		if got := string(appendSanitized([]byte("x"), []byte(name))); got != "x"+want {
			t.Errorf("%s: %s, want %s", name, got[1:], want)
		}
	}
	p, _ := newParser(t, "-datadog.sanitizeMetricName=false")
	parsertest.CheckTwice(t, p.ParseV1, protoparser.Request{}, `{"series":[{"metric":"a--b","points":[[1717200000,1]]}]}`, `a--b@1717200000000=1`)
}

// The messages, as they are written here.

func bytesField(number protowire.Number, parts ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), slices.Concat(parts...))
}

func textField(number protowire.Number, s string) []byte { return bytesField(number, []byte(s)) }

func varintField(number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), v)
}

func doubleField(number protowire.Number, v float64) []byte {
	return binary.LittleEndian.AppendUint64(protowire.AppendTag(nil, number, protowire.Fixed64Type), math.Float64bits(v))
}

func TestProtobufV2(t *testing.T) {
	point := func(seconds uint64, value float64) []byte {
		return bytesField(4, doubleField(1, value), varintField(2, seconds))
	}
	one := bytesField(1, textField(2, "first"), point(1717200000, 1))
	for body, want := range map[string]string{
		string(bytesField(1, bytesField(1, textField(1, "host"), textField(2, "h")), textField(2, "m-x"), textField(3, "env:prod"), textField(3, "bare"), point(1717200000, 2.5), point(1717200001, 3), varintField(5, 3), textField(7, "src"), varintField(8, 10))): `m_x{bare="no_label_value",env="prod",host="h",source_type_name="src"}@1717200000000=2.5 m_x{bare="no_label_value",env="prod",host="h",source_type_name="src"}@1717200001000=3`,
		"": "",
		string(slices.Concat(textField(2, "x"), varintField(1, 5), one)):                                                                                                  `first@1717200000000=1`,
		string(slices.Concat(bytesField(1, textField(2, "m"), point(1<<62, 1)), one)):                                                                                     `first@1717200000000=1 !1`,
		string(slices.Concat(bytesField(1, slices.Repeat(textField(3, "t"), protoparser.MaxLabels+1), point(1, 1)), one)):                                                 `first@1717200000000=1 !1`,
		string(bytesField(1, textField(2, "m"), point(math.MaxUint64, 1))):                                                                                                `m@-1000=1`, // storage leaves it out
		string(bytesField(1, textField(2, "m"), protowire.AppendTag(nil, 9, protowire.StartGroupType), protowire.AppendTag(nil, 9, protowire.EndGroupType), point(1, 1))): `m@1000=1`,
	} {
		p, _ := newParser(t)
		if kind := parsertest.CheckTwice(t, p.ParseV2, protoparser.Request{Format: Protobuf}, body, want); kind != errkind.OK {
			t.Errorf("%q: an error of kind %v", body, kind)
		}
	}
	for _, bad := range [][]byte{{0xff, 0xff}, {1}, bytesField(1, []byte{0xff}), bytesField(1, bytesField(1, []byte{0xff})), bytesField(1, bytesField(4, []byte{0x0f})), append(slices.Clone(one), 0x0a, 5, 1)} {
		p, set := newParser(t)
		if kind := parsertest.CheckTwice(t, p.ParseV2, protoparser.Request{Format: Protobuf}, string(bad), ""); kind != errkind.BadRequest {
			t.Errorf("%x: an error of kind %v", bad, kind)
		}
		if n := set.Counter(`vm_protoparser_unmarshal_errors_total{type="datadogv2"}`).Get(); n != 2 {
			t.Errorf("%x: %d errors counted", bad, n)
		}
	}
}

// sketchOf returns a message of one sketch; bins and counts are packed when asked.
func sketchOf(packed bool, seconds uint64, count uint64, stats [3]float64, bins []int64, counts []uint64) []byte {
	fields := slices.Concat(varintField(1, seconds), varintField(2, count), doubleField(3, stats[0]), doubleField(4, stats[1]), doubleField(5, 99), doubleField(6, stats[2]))
	var k, n []byte
	for _, bin := range bins {
		v := protowire.EncodeZigZag(bin)
		if k = protowire.AppendVarint(k, v); !packed {
			fields = append(fields, varintField(7, v)...)
		}
	}
	for _, count := range counts {
		if n = protowire.AppendVarint(n, count); !packed {
			fields = append(fields, varintField(8, count)...)
		}
	}
	if packed {
		fields = slices.Concat(fields, bytesField(7, k), bytesField(8, n))
	}
	return bytesField(7, fields)
}

func TestSketches(t *testing.T) {
	all := func(labels string, at int64, values ...float64) string {
		var rows []string
		for i, o := range outputs() {
			name, ls := "m"+o.text, labels
			if o.kind == quantileText {
				name, ls = "m", strings.TrimPrefix(labels+`,quantile="`+o.text+`"`, ",")
			}
			if ls != "" {
				ls = "{" + ls + "}"
			}
			rows = append(rows, fmt.Sprintf("%s%s@%d=%v", name, ls, at, values[i]))
		}
		return strings.Join(rows, " ")
	}
	head := slices.Concat(textField(1, "m"), textField(2, "web1"), textField(4, "env:prod"))
	for _, packed := range []bool{false, true} {
		for body, want := range map[string]string{
			string(bytesField(1, head, sketchOf(packed, 1717200000, 4, [3]float64{1, 1, 4}, []int64{unity}, []uint64{4}))):                 all(`env="prod",host="web1"`, 1717200000000, 1, 1, 1, 1, 1, 1, 1, 4, 4),
			string(bytesField(1, textField(1, "m"), sketchOf(packed, 1717200000, 3, [3]float64{0, 0, 0}, []int64{0}, []uint64{3}))):        all("", 1717200000000, 0, 0, 0, 0, 0, 0, 0, 0, 3),
			string(bytesField(1, textField(1, "m"), sketchOf(packed, 1, 2, [3]float64{-1, 1, 0}, []int64{-unity, unity}, []uint64{1, 1}))): all("", 1000, -1, 1, 1, 1, 1, -1, 1, 0, 2),
			string(bytesField(1, head, sketchOf(packed, 1, 0, [3]float64{}, nil, nil))):                                                    "",
			string(bytesField(1, head, sketchOf(packed, 1, 1, [3]float64{1, 1, 1}, []int64{1, 2}, []uint64{1}))):                           "!1",
			string(bytesField(1, head, sketchOf(packed, 1, 2, [3]float64{1, 1, 1}, []int64{2, 1}, []uint64{1, 1}))):                        "!1",
			string(bytesField(1, head, sketchOf(packed, 1, 2, [3]float64{1, 1, 1}, []int64{40000}, []uint64{1}))):                          "!1",
			string(bytesField(1, head, bytesField(3, varintField(1, 5)))):                                                                  "!1",
		} {
			p, _ := newParser(t)
			if kind := parsertest.CheckTwice(t, p.ParseSketches, protoparser.Request{}, body, want); kind != errkind.OK {
				t.Errorf("%q: an error of kind %v", body, kind)
			}
		}
	}
	p, _ := newParser(t)
	if kind := parsertest.CheckTwice(t, p.ParseSketches, protoparser.Request{}, string(bytesField(1, bytesField(7, bytesField(7, []byte{0x80})))), ""); kind != errkind.BadRequest {
		t.Errorf("an error of kind %v", kind)
	}
}

// TestQuantiles compares quantiles of the sketches of random values with those of the values themselves.
func TestQuantiles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		values := make([]float64, 1+rng.IntN(300))
		for i := range values {
			values[i] = math.Exp(rng.NormFloat64()*3) * float64(rng.IntN(3)-1)
		}
		slices.Sort(values)
		var s sketch
		for _, v := range values {
			k := int32(0)
			if v != 0 {
				k = int32(math.RoundToEven(math.Log(math.Abs(v))/math.Log(growth))) + unity
			}
			if v < 0 {
				k = -k
			}
			if n := len(s.bins); n > 0 && s.bins[n-1] == k {
				s.counts[n-1]++
				continue
			}
			s.bins, s.counts = append(s.bins, k), append(s.counts, 1)
		}
		if fault := s.checkBins(); fault != "" {
			t.Fatal(fault)
		}
		last := math.Inf(-1)
		for q := 0.0; q <= 1; q += 1.0 / 64 {
			got := s.quantile(q, values[0], values[len(values)-1])
			want := values[int(math.RoundToEven(q*float64(len(values)-1)))]
			if math.Abs(got-want) > math.Abs(want)*2/64 || got < last {
				t.Fatalf("quantile %v of %v: %v, want %v; the one before is %v", q, values, got, want, last)
			}
			last = got
		}
	}
}

func FuzzV1(f *testing.F) {
	p, _ := newParser(f)
	parsertest.Fuzz(f, p.ParseV1, protoparser.Request{}, `{"series":[{"metric":"m","points":[[1717200000,20],["5",null]],"host":"h","tags":["a:b","\"\\"]}]}`, `{"series":[[],{"points":[[[]]]}],"x":{}}`, `{"series":5}`)
}

func FuzzV2(f *testing.F) {
	p, _ := newParser(f)
	parsertest.Fuzz(f, p.ParseV2, protoparser.Request{}, `{"series":[{"metric":"m","points":[{"timestamp":5,"value":0.5}],"resources":[{"type":"host","name":"h"}],"tags":["a"],"source_type_name":"s"}]}`)
}

func FuzzProtobufV2(f *testing.F) {
	p, _ := newParser(f)
	parsertest.Fuzz(f, p.ParseV2, protoparser.Request{Format: Protobuf},
		string(bytesField(1, bytesField(1, textField(1, "host"), textField(2, "h")), textField(2, "m"), textField(3, "a:b"), bytesField(4, doubleField(1, 1), varintField(2, 5)), textField(7, "s"))))
}

func FuzzSketches(f *testing.F) {
	p, _ := newParser(f)
	parsertest.Fuzz(f, p.ParseSketches, protoparser.Request{},
		string(bytesField(1, textField(1, "m"), textField(4, "a"), sketchOf(true, 5, 3, [3]float64{1, 2, 3}, []int64{-5, 0, 5}, []uint64{1, 0, 2}))))
}

// BenchmarkParse measures what an agent sends for many hosts' series of two points.
func BenchmarkParse(b *testing.B) {
	const series = 2000
	var v1, v2 strings.Builder
	var proto, sketches []byte
	for i := range series {
		tags := fmt.Sprintf("env:production,service:checkout,pod_name:web-%d,kube_namespace:shop", i)
		list := `["` + strings.ReplaceAll(tags, ",", `","`) + `"]`
		fmt.Fprintf(&v1, `%c{"metric":"system.cpu.user","points":[[1717200000,%d.5],[1717200015,20]],"tags":%s,"host":"host-%d.example.com","type":"gauge","interval":0,"source_type_name":"System"}`, "[,"[min(i, 1)], i, list, i)
		fmt.Fprintf(&v2, `%c{"metric":"system.cpu.user","type":3,"points":[{"timestamp":1717200000,"value":%d.5},{"timestamp":1717200015,"value":20}],"tags":%s,"resources":[{"type":"host","name":"host-%d.example.com"}],"source_type_name":"System"}`, "[,"[min(i, 1)], i, list, i)
		host := fmt.Sprintf("host-%d.example.com", i)
		var texts, beta []byte
		for tag := range strings.SplitSeq(tags, ",") {
			texts, beta = append(texts, textField(3, tag)...), append(beta, textField(4, tag)...)
		}
		point := func(seconds uint64, v float64) []byte {
			return bytesField(4, doubleField(1, v), varintField(2, seconds))
		}
		proto = append(proto, bytesField(1, bytesField(1, textField(1, "host"), textField(2, host)), textField(2, "system.cpu.user"), texts, point(1717200000, float64(i)), point(1717200015, 20), varintField(5, 3), textField(7, "System"))...)
		sketches = append(sketches, bytesField(1, textField(1, "http.latency"), textField(2, host), beta, sketchOf(true, 1717200000, 60, [3]float64{1, 5, 99}, []int64{1338, 1350, 1360, 1370, 1380, 1400}, []uint64{10, 10, 10, 10, 10, 10}))...)
	}
	for name, c := range map[string]struct {
		parse   func(*Parser) parsertest.ParseFunc
		format  string
		body    string
		samples int
	}{
		"v1":       {func(p *Parser) parsertest.ParseFunc { return p.ParseV1 }, "", `{"series":` + v1.String() + "]}", 2 * series},
		"v2":       {func(p *Parser) parsertest.ParseFunc { return p.ParseV2 }, "", `{"series":` + v2.String() + "]}", 2 * series},
		"protobuf": {func(p *Parser) parsertest.ParseFunc { return p.ParseV2 }, Protobuf, string(proto), 2 * series},
		"sketches": {func(p *Parser) parsertest.ParseFunc { return p.ParseSketches }, "", string(sketches), 9 * series},
	} {
		b.Run(name, func(b *testing.B) {
			p, _ := newParser(b)
			parsertest.Benchmark(b, c.parse(p), protoparser.Request{Format: c.format}, c.body, c.samples)
		})
	}
}
