package producers

import (
	"fmt"
	"maps"
	"testing"
	"time"

	influxdb2 "github.com/influxdata/influxdb-client-go/v2"
	"github.com/influxdata/influxdb-client-go/v2/api/write"
	influxdb1 "github.com/influxdata/influxdb1-client/v2"
)

// influxPoint is a point for a client of Influx, and what is stored of it.
type influxPoint struct {
	tags   map[string]string
	fields map[string]any
	at     time.Time
}

const measurement = "weather, old=1"

func influxPoints() []influxPoint {
	var points []influxPoint
	for i := range 20 {
		points = append(points, influxPoint{
			tags: map[string]string{"city": "Zürich West", "room": fmt.Sprintf("a=%d,b", i%5), "path": `C:\x`},
			fields: map[string]any{
				"degrees": -3.25 * float64(i), "tiny": 1e-12 * float64(i+1), "people": int64(i), "open": i%2 == 0, "big": uint64(1) << (i + 30), "in words": `it is "cold"`,
			},
			at: time.UnixMilli(remoteStart + int64(i)*1000),
		})
	}
	return points
}

// add adds what is to be stored of a point.
func (p *influxPoint) add(want samples, more map[string]string) {
	for field, value := range p.fields {
		labels := map[string]string{"__name__": measurement + "_" + field}
		maps.Copy(labels, p.tags)
		maps.Copy(labels, more)
		v := 0.0 // of texts and of what is false
		switch x := value.(type) {
		case float64:
			v = x
		case int64:
			v = float64(x)
		case uint64:
			v = float64(x)
		case bool:
			if x {
				v = 1
			}
		}
		want.add(series(labels), p.at.UnixMilli(), v)
	}
}

// TestInflux2 writes by the client of InfluxDB 2, at once and in the background, in all precisions, compressed and not.
func TestInflux2(t *testing.T) {
	t.Parallel()
	each(t, func(x *target) {
		t, want := x.t, samples{}
		for _, unit := range []time.Duration{time.Nanosecond, time.Microsecond, time.Millisecond, time.Second} {
			options := influxdb2.DefaultOptions().SetPrecision(unit).SetUseGZip(unit > time.Microsecond).SetBatchSize(7)
			client := influxdb2.NewClientWithOptions(x.path("influx", ""), "token", options)
			var points []*write.Point
			for _, p := range influxPoints() {
				unitTag := map[string]string{"unit": unit.String()}
				p.add(want, unitTag)
				point := write.NewPoint(measurement, p.tags, p.fields, p.at)
				points = append(points, point.AddTag("unit", unit.String()))
			}
			if err := client.WriteAPIBlocking("org", "bucket").WritePoint(t.Context(), points[:5]...); err != nil {
				t.Error(err)
			}
			background := client.WriteAPI("org", "bucket")
			failed := background.Errors()
			for _, p := range points[5:] {
				background.WritePoint(p)
			}
			background.Flush()
			client.Close()
			for err := range failed {
				t.Error(err)
			}
		}
		x.wants(`{city="Zürich West"}`, want)
	})
}

// TestInflux1 writes by the client of InfluxDB 1, over HTTP and UDP.
func TestInflux1(t *testing.T) {
	t.Parallel()
	each(t, func(x *target) {
		t := x.t
		http, err := influxdb1.NewHTTPClient(influxdb1.HTTPConfig{Addr: x.path("influx", ""), Username: "u", Password: "p"})
		if err != nil {
			t.Fatal(err)
		}
		udp, err := influxdb1.NewUDPClient(influxdb1.UDPConfig{Addr: x.lines})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := http.Ping(patience); err != nil {
			t.Error(err)
		}
		if answer, err := http.Query(influxdb1.NewQuery("SHOW DATABASES", "", "")); err != nil || answer.Error() != nil {
			t.Errorf("%+v, %v", answer, err)
		}
		want := samples{}
		for name, client := range map[string]influxdb1.Client{"http": http, "udp": udp} {
			batch, err := influxdb1.NewBatchPoints(influxdb1.BatchPointsConfig{Database: "db of " + name, Precision: "ms"})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range influxPoints() {
				tags := map[string]string{"by": name}
				maps.Copy(tags, p.tags)
				point, err := influxdb1.NewPoint(measurement, tags, p.fields, p.at)
				if err != nil {
					t.Fatal(err)
				}
				batch.AddPoint(point)
				more := map[string]string{"by": name}
				if name == "http" { // over UDP nobody names a database
					more["db"] = "db of http"
				}
				p.add(want, more)
			}
			if err := client.Write(batch); err != nil {
				t.Errorf("%s: %s", name, err)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
		}
		x.wants(`{city="Zürich West"}`, want)
	})
}
