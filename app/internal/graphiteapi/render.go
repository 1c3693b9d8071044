package graphiteapi

import (
	"bufio"
	"cmp"
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"vmcluster/lib/errkind"
	"vmcluster/lib/graphite"
)

const dayMs = 24 * 3600 * 1000

// render serves /render.
func (a *API) render(w http.ResponseWriter, r *request) error {
	if err := a.renderTargets(w, r); err != nil {
		return errkind.New(kindOf(err), "error in %q: %w", r.path, err)
	}
	return nil
}

// kindOf is the kind of an error, with limits as faults of the request.
func kindOf(err error) errkind.Kind {
	if k := errkind.Of(err); k != errkind.Unprocessable {
		return k
	}
	return errkind.BadRequest
}

func (a *API) renderTargets(w http.ResponseWriter, r *request) error {
	if format := r.Form.Get("format"); format != "json" {
		return errkind.New(errkind.BadRequest, "unsupported format=%q; supported values: json", format)
	}
	req, err := a.renderRequest(r)
	if err != nil {
		return err
	}
	maxPoints, err := intArg(r, "maxDataPoints", 0)
	if err != nil {
		return err
	}
	run := a.engine.NewRun(&source{api: a, r: r}, *req, graphite.Limits{
		MaxPointsPerSeries: a.o.Config.MaxPointsPerSeries, MaxPathLen: a.o.Config.MaxPathLen, MaxBytes: a.o.MaxBytes, Budget: a.o.Budget,
	})
	defer run.Close()
	var series []*graphite.Series
	for _, target := range append(r.Form["target"], r.Form["target[]"]...) {
		list, err := a.renderTarget(r, run, target)
		if err != nil {
			return errkind.New(kindOf(err), "cannot eval target=%q: %w", target, err)
		}
		series = append(series, list...)
	}
	return a.writeJSON(w, r, func(b *bufio.Writer) error { return writeSeries(b, series, maxPoints, boolArg(r, "noNullPoints")) })
}

func (a *API) renderTarget(r *request, run *graphite.Run, target string) ([]*graphite.Series, error) {
	if err := a.checkLen(target); err != nil {
		return nil, err
	}
	return run.Render(r.Context(), target)
}

// checkLen refuses long queries.
func (a *API) checkLen(query string) error {
	if most := a.o.MaxQueryLen; most > 0 && len(query) > most {
		return errkind.New(errkind.BadRequest, "too long query; got %d bytes; mustn't exceed `-search.maxQueryLen=%d` bytes", len(query), most)
	}
	return nil
}

// renderRequest reads the arguments of render which concern all targets.
func (a *API) renderRequest(r *request) (*graphite.Request, error) {
	now, err := a.zoned(r)
	if err != nil {
		return nil, err
	}
	req := &graphite.Request{Now: now, Step: a.o.Config.StorageStep.D().Milliseconds()}
	if req.From, err = timeArg(r, "from", now.UnixMilli()-dayMs, now); err != nil {
		return nil, err
	}
	if req.Until, err = timeArg(r, "until", now.UnixMilli(), now); err != nil {
		return nil, err
	}
	if req.From > req.Until {
		return nil, errkind.New(errkind.BadRequest, "from=%d cannot exceed until=%d", req.From/1000, req.Until/1000)
	}
	if s := cmp.Or(r.Form.Get("storage_step"), r.Header.Get("Storage-Step")); s != "" {
		if req.Step, err = graphite.ParseInterval(s); err != nil {
			return nil, errkind.New(errkind.BadRequest, "cannot parse datapoints interval %s: %w", s, err)
		}
	}
	if req.Step <= 0 {
		return nil, errkind.New(errkind.BadRequest, "cannot use a datapoints interval of %d ms: want a positive storage_step argument or -search.graphiteStorageStep", req.Step)
	}
	if s := r.Form.Get("xFilesFactor"); s != "" {
		if req.XFilesFactor, err = strconv.ParseFloat(s, 64); err != nil || !(req.XFilesFactor >= 0 && req.XFilesFactor <= 1) {
			return nil, errkind.New(errkind.BadRequest, "cannot parse xFilesFactor=%q: want a number between 0 and 1", s)
		}
	}
	return req, nil
}

// writeSeries writes series as JSON, each with at most maxPoints values if that is positive.
func writeSeries(b *bufio.Writer, list []*graphite.Series, maxPoints int, noNull bool) error {
	_ = b.WriteByte('[') // an error shows at the end of the series
	for i, s := range list {
		if i > 0 {
			_ = b.WriteByte(',')
		}
		if err := writeOne(b, graphite.Consolidate(s, maxPoints), noNull); err != nil {
			return err
		}
	}
	return b.WriteByte(']')
}

func writeOne(b *bufio.Writer, s *graphite.Series, noNull bool) error {
	name, err := json.Marshal(s.Name)
	if err != nil {
		return err
	}
	tags, err := json.Marshal(s.Tags)
	if err != nil {
		return err
	}
	_, _ = b.WriteString(`{"target":`)
	_, _ = b.Write(name)
	_, _ = b.WriteString(`,"tags":`)
	_, _ = b.Write(tags)
	_, _ = b.WriteString(`,"datapoints":[`)
	first := true
	for i, v := range s.Values {
		if noNull && math.IsNaN(v) {
			continue
		}
		if !first {
			_ = b.WriteByte(',')
		}
		first = false
		writePoint(b, v, s.At(i))
	}
	_, err = b.WriteString("]}")
	return err
}

// writePoint writes a value with its time.
func writePoint(b *bufio.Writer, v float64, ms int64) {
	p := append(b.AvailableBuffer(), '[')
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		p = append(p, "null"...)
	case math.Abs(v) >= 1e21 || v != 0 && math.Abs(v) < 1e-6:
		p = strconv.AppendFloat(p, v, 'e', -1, 64)
	default:
		p = strconv.AppendFloat(p, v, 'f', -1, 64)
	}
	p = strconv.AppendInt(append(p, ','), ms/1000, 10)
	_, _ = b.Write(append(p, ']')) // an error shows at the end of the series
}
