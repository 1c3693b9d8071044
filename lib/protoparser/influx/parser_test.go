package influx

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/parsertest"
)

func newParser(t testing.TB, args ...string) (*Parser, *metrics.Set) {
	t.Helper()
	var c Config
	in, set := parsertest.NewIntake(t, args, c.RegisterFlags)
	return New(in, c), set
}

const now = 1700000000123

func parse(p *Parser, req protoparser.Request, body string) (rows []string, result protoparser.Result, err error) {
	req.DefaultTimestamp = now
	return parsertest.Parse(p.Parse, req, body)
}

// TestLines checks each line twice with the same parser, the second time as a series which is known, in both modes.
func TestLines(t *testing.T) {
	for line, want := range map[string]string{
		`m f=1`:                           `m_f@1700000000123=1`,
		`m f=1 1717200000000000000`:       `m_f@1717200000000=1`,
		`  m  f=1  1717200000000000000  `: `m_f@1717200000000=1`,
		`m f=1 1717200000000000`:          `m_f@1717200000000=1`, // microseconds, and so on
		`m f=1 1717200000123`:             `m_f@1717200000123=1`,
		`m f=1 1717200000`:                `m_f@1717200000000=1`,
		`m f=1 -1717200000000000000`:      `m_f@-1717200000000=1`,
		`m,a=b,c=d f=1.5,g=-2e3`:          `m_f{a="b",c="d"}@1700000000123=1.5 m_g{a="b",c="d"}@1700000000123=-2000`,
		`m i=-3i,u=7u,U=18446744073709551615u,I=9223372036854775807i`: `m_i@1700000000123=-3 m_u@1700000000123=7 m_U@1700000000123=1.8446744073709552e+19 m_I@1700000000123=9.223372036854776e+18`,
		`m a=t,b=T,c=true,d=True,e=TRUE`:                              `m_a@1700000000123=1 m_b@1700000000123=1 m_c@1700000000123=1 m_d@1700000000123=1 m_e@1700000000123=1`,
		`m a=f,b=F,c=false,d=False,e=FALSE`:                           `m_a@1700000000123=0 m_b@1700000000123=0 m_c@1700000000123=0 m_d@1700000000123=0 m_e@1700000000123=0`,
		`m s="a, b=c \" d\\",f=1`:                                     `m_s@1700000000123=0 m_f@1700000000123=1`,
		`m s=""`:                                                      `m_s@1700000000123=0`,
		`a\,b\ c\=d,t\,\ \==x\,\ \=y k\,\ \==5`:                       `a,b c=d_k, ={t, =="x, =y"}@1700000000123=5`,
		`m,p=c:\dir\new f=1`:                                          `m_f{p="c:\\dir\\new"}@1700000000123=1`,
		`m,p=a\\ f=1`:                                                 `m_f{p="a\\"}@1700000000123=1`,
		`m,p=a\\\ b f=1`:                                              `m_f{p="a\\ b"}@1700000000123=1`,
		`m,p="q f="x"`:                                                `m_f{p="\"q"}@1700000000123=0`,
		`m,p=a=b f=1`:                                                 `m_f{p="a=b"}@1700000000123=1`,
		`m,p= f=1`:                                                    `m_f@1700000000123=1`,
		`m=x f=1`:                                                     `m=x_f@1700000000123=1`,
		`ü,ä=ö ß=1`:                                                   `ü_ß{ä="ö"}@1700000000123=1`,
		`m f=.5,g=5.`:                                                 `m_f@1700000000123=0.5 m_g@1700000000123=5`,
		`m f=NaN`:                                                     `m_f@1700000000123=NaN`,
		`# comment`:                                                   "-",
		`m`:                                                           "",
		`m,a=b`:                                                       "",
		`m f`:                                                         "",
		`m f=`:                                                        "",
		`m f=,g=1`:                                                    "",
		`m f=1,`:                                                      "",
		`m =1`:                                                        "",
		`m f=abc`:                                                     "",
		`m f=1.5i`:                                                    "",
		`m f=i`:                                                       "",
		`m f=-1u`:                                                     "",
		`m f=1e400`:                                                   "",
		`m f=99999999999999999999i`:                                   "",
		`m f="a`:                                                      "",
		`m f="a"b`:                                                    "",
		`m f=1 abc`:                                                   "",
		`m f=1 1.5`:                                                   "",
		`m f=1 1717200000 5`:                                          "",
		`m f=1 99999999999999999999`:                                  "",
		`m,a f=1`:                                                     "",
		`m,=b f=1`:                                                    "",
		`m,a=b,, f=1`:                                                 "",
		`,a=b f=1`:                                                    "",
		`m\ f=1`:                                                      "",
		`bad line here`:                                               "",
	} {
		for _, stream := range []bool{false, true} {
			checkLine(t, line, want, stream)
		}
	}
}

// checkLine writes the line between two others; want are its samples, "-" for none, or "" when it is not valid.
func checkLine(t *testing.T, line, want string, stream bool) {
	t.Helper()
	p, set := newParser(t)
	all := []string{"first_x@1717200000000=1", "last_x@1717200000000=2"}
	switch {
	case want == "" && !stream:
		all = nil
	case want != "" && want != "-":
		all = slices.Insert(all, 1, regroup(want)...)
	}
	for range 2 {
		rows, result, err := parse(p, protoparser.Request{Stream: stream}, "first x=1 1717200000000000000\n"+line+"\r\n\n# c\nlast x=2 1717200000000000000")
		if !slices.Equal(rows, all) || (errkind.Of(err) == errkind.BadRequest) != (want == "" && !stream) || result.Rows != len(all) {
			t.Errorf("%s: stream %v: rows %q, %+v, error %v; want %q", line, stream, rows, result, err, all)
		}
	}
	if n := set.Counter(`vm_rows_invalid_total{type="influx"}`).Get(); (n == 2) != (want == "") {
		t.Errorf("%s: stream %v: %d invalid lines counted", line, stream, n)
	}
}

// regroup splits samples, whose series may have spaces in them.
func regroup(s string) (list []string) {
	start := ""
	for _, part := range strings.Split(s, " ") {
		start += part
		if i := strings.LastIndexByte(start, '@'); i >= 0 && strings.Contains(start[i:], "=") {
			list, start = append(list, start), ""
		} else {
			start += " "
		}
	}
	return list
}

func TestUnits(t *testing.T) {
	for unit, text := range map[time.Duration]string{
		time.Nanosecond: "1717200000123456789", time.Microsecond: "1717200000123456", time.Millisecond: "1717200000123",
	} {
		if rows, _, err := parse(first(newParser(t)), protoparser.Request{Unit: unit}, "m f=1 "+text); err != nil || !slices.Equal(rows, []string{"m_f@1717200000123=1"}) {
			t.Errorf("%s: rows %q, error %v", unit, rows, err)
		}
	}
	for unit, text := range map[time.Duration]string{time.Second: "1717200000", time.Minute: "28620000", time.Hour: "477000"} {
		if rows, _, err := parse(first(newParser(t)), protoparser.Request{Unit: unit}, "m f=1 "+text); err != nil || !slices.Equal(rows, []string{"m_f@1717200000000=1"}) {
			t.Errorf("%s: rows %q, error %v", unit, rows, err)
		}
		if _, _, err := parse(first(newParser(t)), protoparser.Request{Unit: unit}, "m f=1 -9223372036854775808"); errkind.Of(err) != errkind.BadRequest {
			t.Errorf("%s: error %v of a time out of range", unit, err)
		}
	}
	p := first(newParser(t, "-influxTrimTimestamp=1s"))
	if rows, _, err := parse(p, protoparser.Request{}, "m f=1\nm f=2 1717200000999999999"); err != nil || !slices.Equal(rows, []string{"m_f@1700000000000=1", "m_f@1717200000000=2"}) {
		t.Errorf("rows %q, error %v", rows, err)
	}
}

func first(p *Parser, _ *metrics.Set) *Parser { return p }

func TestNames(t *testing.T) {
	const body = "m,a=b f=1 1717200000\nm g=2,h=3 1717200000\nm,db=own f=4 1717200000"
	for args, want := range map[string][]string{
		"":                                   {`m_f{a="b",db="d"}`, `m_g{db="d"}`, `m_h{db="d"}`, `m_f{db="own"}`},
		"-influxMeasurementFieldSeparator=.": {`m.f{a="b",db="d"}`, `m.g{db="d"}`, `m.h{db="d"}`, `m.f{db="own"}`},
		"-influxSkipMeasurement":             {`f{a="b",db="d"}`, `g{db="d"}`, `h{db="d"}`, `f{db="own"}`},
		"-influxSkipSingleField":             {`m{a="b",db="d"}`, `m_g{db="d"}`, `m_h{db="d"}`, `m{db="own"}`},
		"-influxSkipMeasurement -influxSkipSingleField": {`m{a="b",db="d"}`, `g{db="d"}`, `h{db="d"}`, `m{db="own"}`},
		"-influxDBLabel=base":                           {`m_f{a="b",base="d"}`, `m_g{base="d"}`, `m_h{base="d"}`, `m_f{base="d",db="own"}`},
		"-influxDBLabel=":                               {`m_f{a="b"}`, `m_g`, `m_h`, `m_f{db="own"}`},
	} {
		p := first(newParser(t, strings.Fields(args)...))
		for _, db := range []string{"d", "e", "d"} { // what is known of series differs by database
			rows, _, err := parse(p, protoparser.Request{Database: db}, body)
			for i := range want {
				if w := strings.ReplaceAll(want[i], `"d"`, strconv.Quote(db)) + fmt.Sprintf("@1717200000000=%d", i+1); err != nil || rows[i] != w {
					t.Errorf("%q, database %s: row %s, error %v; want %s", args, db, rows[i], err, w)
				}
			}
		}
	}
}

// TestLineEndsInTexts checks that texts may have line ends, and that one which does not end costs no other line in stream mode.
func TestLineEndsInTexts(t *testing.T) {
	p, _ := newParser(t)
	body := "m s=\"two\nlines \\\" with=\\\"more\n\",f=1 1717200000\nm,a=\"b f=2 1717200000\nm f=3 1717200000"
	if rows, _, err := parse(p, protoparser.Request{}, body); err != nil || len(rows) != 4 || rows[1] != "m_f@1717200000000=1" || rows[3] != "m_f@1717200000000=3" {
		t.Errorf("rows %q, error %v", rows, err)
	}
	rows, result, err := parse(p, protoparser.Request{Stream: true}, "m s=\"open\nm f=1 1717200000\nm f=\"2\" 1717200000")
	if err != nil || len(rows) != 2 || result.Invalid != 1 || !strings.Contains(result.Reason, "quote") {
		t.Errorf("rows %q, %+v, error %v", rows, result, err)
	}
	if _, _, err := parse(p, protoparser.Request{}, "m f=1\nm s=\"open\nm f=1 1717200000\n"); errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), `open\"`) && !strings.Contains(err.Error(), "open") {
		t.Errorf("error %v", err)
	}
}

// TestAllOrNothing checks that no batch of a large request is stored when its last line has a fault.
func TestAllOrNothing(t *testing.T) {
	var body strings.Builder
	for i := range 25_000 {
		fmt.Fprintf(&body, "m,i=%d f=%d,g=1 1717200000000000000\n", i%500, i)
	}
	for _, last := range []string{"m f=\n", "m,a f=1\n"} {
		p, _ := newParser(t)
		rows, result, err := parse(p, protoparser.Request{}, body.String()+last)
		if errkind.Of(err) != errkind.BadRequest || len(rows) > 0 || result.Rows > 0 || !strings.Contains(err.Error(), "Stream-Mode") {
			t.Errorf("%d rows, %+v, error %v", len(rows), result, err)
		}
		if rows, _, err = parse(p, protoparser.Request{}, body.String()); err != nil || len(rows) != 50_000 {
			t.Errorf("%d rows, error %v", len(rows), err)
		}
		if rows, _, err = parse(p, protoparser.Request{Stream: true}, body.String()+last); err != nil || len(rows) != 50_000 {
			t.Errorf("%d rows in stream mode, error %v", len(rows), err)
		}
	}
}

func TestLimits(t *testing.T) {
	p, _ := newParser(t, "-influx.maxLineSize=100", "-influx.maxRequestSize=300")
	long := "m,a=" + strings.Repeat("x", 120) + " f=1\n"
	if rows, result, err := parse(p, protoparser.Request{Stream: true}, long+"m f=2\n"+long+long); err != nil || len(rows) != 1 || result.Invalid != 3 {
		t.Errorf("rows %q, %+v, error %v", rows, result, err)
	}
	if rows, _, err := parse(p, protoparser.Request{}, long+long); err != nil || len(rows) != 2 {
		t.Errorf("rows %q, error %v", rows, err)
	}
	if _, _, err := parse(p, protoparser.Request{}, long+long+long); errkind.Of(err) != errkind.TooLarge || !strings.Contains(err.Error(), "-influx.maxRequestSize=300") {
		t.Errorf("error %v", err)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(long + long + long)); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	if _, _, err := parse(p, protoparser.Request{Encoding: "gzip"}, packed.String()); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("error %v", err)
	}
	p, _ = newParser(t, "-influx.forceStreamMode")
	if rows, _, err := parse(p, protoparser.Request{}, "m f=1\nbad\n"); err != nil || len(rows) != 1 {
		t.Errorf("rows %q, error %v", rows, err)
	}
}

// TestManyFields checks that a line cannot mean much more memory and work than its size.
func TestManyFields(t *testing.T) {
	for _, c := range []struct {
		tag, fields int
		fault       bool
	}{{10, maxFields, false}, {10, maxFields + 1, true}, {20_000, 800, false}, {20_000, 900, true}} {
		p, _ := newParser(t)
		line := "m,a=" + strings.Repeat("x", c.tag) + " f=1" + strings.Repeat(",f=1", c.fields-1)
		if _, _, err := parse(p, protoparser.Request{}, line); (errkind.Of(err) == errkind.BadRequest) != c.fault {
			t.Errorf("%+v: error %.200v", c, err)
		}
	}
}

// TestRoundTrip writes random names, tags, fields and texts with the escapes that the format has, and reads them back.
func TestRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	text := func() string {
		const letters = `ab,= \"#ü`
		runes := []rune(letters)
		s := "x"
		for range rng.IntN(6) {
			s += string(runes[rng.IntN(len(runes))])
		}
		return s + "x"
	}
	escape := strings.NewReplacer(",", `\,`, "=", `\=`, " ", `\ `, `\`, `\\`).Replace
	p, _ := newParser(t)
	for range 300 {
		var body strings.Builder
		var want []string
		for range 1 + rng.IntN(5) {
			measurement := text()
			body.WriteString(escape(measurement))
			labels := []model.Label{}
			for i := range rng.IntN(4) {
				labels = append(labels, model.Label{Name: strconv.Itoa(i) + text(), Value: text()})
				fmt.Fprintf(&body, ",%s=%s", escape(labels[i].Name), escape(labels[i].Value))
			}
			for i := range 1 + rng.IntN(3) {
				key, value := text(), float64(rng.IntN(1000))/8
				fmt.Fprintf(&body, "%c%s=%v", " ,"[min(i, 1)], escape(key), value)
				if rng.IntN(4) == 0 {
					fmt.Fprintf(&body, ",%s=%s", escape(key), `"`+strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(text())+"\n\"")
					want = append(want, series(t, measurement+"_"+key, labels)+"@1717200000000="+strconv.FormatFloat(value, 'g', -1, 64), series(t, measurement+"_"+key, labels)+"@1717200000000=0")
					continue
				}
				want = append(want, series(t, measurement+"_"+key, labels)+"@1717200000000="+strconv.FormatFloat(value, 'g', -1, 64))
			}
			body.WriteString(" 1717200000000000000\n")
		}
		if rows, _, err := parse(p, protoparser.Request{}, body.String()); err != nil || !slices.Equal(rows, want) {
			t.Fatalf("%q: rows %q, error %v; want %q", body.String(), rows, err, want)
		}
	}
}

func series(t *testing.T, name string, labels []model.Label) string {
	t.Helper()
	key, err := model.AppendSeriesKey(nil, model.TenantID{}, append([]model.Label{{Name: "__name__", Value: name}}, labels...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(model.SeriesKeyString(key), "tenant 0:0 ")
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f)
	for _, s := range []string{"m f=1", `m,a=b\ ,c=d f="x\"y",g=3i 1717200000`, "#c\n\nm f=t", "m f=\"a\nb\"", `m\`, `m,a=\ f=\`, "\\ \\=\"\n=\"", "m,a f=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		whole, result, err := parse(p, protoparser.Request{}, body)
		if err != nil && (errkind.Of(err) != errkind.BadRequest || len(whole) > 0) || len(whole) != result.Rows {
			t.Fatalf("%d rows, %+v, error %v", len(whole), result, err)
		}
		rows, result, err2 := parse(p, protoparser.Request{Stream: true}, body)
		if err2 != nil || len(rows) != result.Rows {
			t.Fatalf("stream mode: %d rows, %+v, error %v", len(rows), result, err2)
		}
		if err == nil && result.Invalid == 0 && !slices.Equal(rows, whole) {
			t.Fatalf("rows %q, in stream mode %q", whole, rows)
		}
	})
}

// hosts returns lines as agents on many hosts send them, with the number of their samples.
func hosts(fields int) (body string, samples int) {
	const lines = 2000
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "cpu,cluster=production-eu,cpu=cpu%d,env=prod,host=host-%d.example.com,region=eu-west-1 ", i%64, i)
		for j := range fields {
			fmt.Fprintf(&text, "%susage_%d=%d.%d", ","[:min(j, 1)], j, i%100, j+1)
		}
		text.WriteString(" 1717200000000000000\n")
	}
	return text.String(), lines * fields
}

func BenchmarkParse(b *testing.B) {
	for _, fields := range []int{1, 10} {
		for _, stream := range []bool{false, true} {
			b.Run(fmt.Sprintf("fields=%d/stream=%v", fields, stream), func(b *testing.B) { benchmark(b, fields, stream) })
		}
	}
}

func benchmark(b *testing.B, fields int, stream bool) {
	p, _ := newParser(b)
	body, samples := hosts(fields)
	parsertest.Benchmark(b, p.Parse, protoparser.Request{Stream: stream}, body, samples)
}

// BenchmarkFloor finds the lines of the same body, and does nothing with them.
func BenchmarkFloor(b *testing.B) {
	body, _ := hosts(1)
	p, _ := newParser(b)
	r := strings.NewReader(body)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r.Reset(body)
		lines := p.intake.Lines(r, 1<<20)
		for lines.Next() {
		}
		lines.Release()
	}
}
