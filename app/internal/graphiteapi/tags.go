package graphiteapi

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/model"
)

// ask returns a search for all series which pass the filters, over the range of from and until. Without from, it covers all time if there are
// filters, and else the current day (UTC), as the label APIs do: whoever asks for all tags there are wants those in use.
func (a *API) ask(r *request, filters []model.TagFilter) (*model.SearchQuery, error) {
	times, err := a.rangeArg(r)
	if len(filters) == 0 && r.Form.Get("from") == "" {
		times.Min = times.Max - times.Max%dayMs
	}
	q := &model.SearchQuery{Tenant: r.tenant, Range: times, KeysOnly: true, MaxSeries: a.o.Config.MaxSeries}
	if len(filters) > 0 {
		q.Filters = [][]model.TagFilter{filters}
	}
	return q, err
}

// tagNames returns the tags of the series which pass the filters.
func (a *API) tagNames(r *request, filters []model.TagFilter) ([]string, error) {
	q, err := a.ask(r, filters)
	if err != nil {
		return nil, err
	}
	found, err := a.o.Searcher.LabelNames(r.Context(), q, a.o.Config.MaxTagKeys)
	if err == nil {
		err = a.covered(r, found.Coverage)
	}
	if err != nil {
		return nil, err
	}
	for i, label := range found.Values {
		found.Values[i] = tagOf(label)
	}
	slices.Sort(found.Values)
	return found.Values, nil
}

// valuesOf returns the values of a tag, those with a prefix, in the series which pass the filters.
func (a *API) valuesOf(r *request, tag, prefix string, filters []model.TagFilter) ([]string, error) {
	q, err := a.ask(r, filters)
	if err != nil {
		return nil, err
	}
	if prefix != "" {
		filters = append(filters, model.TagFilter{Name: labelOf(tag), Op: model.Regexp, Value: regexp.QuoteMeta(prefix) + "(?s:.*)"})
		q.Filters = [][]model.TagFilter{filters}
	}
	found, err := a.o.Searcher.LabelValues(r.Context(), q, labelOf(tag), a.o.Config.MaxTagValues)
	if err == nil {
		err = a.covered(r, found.Coverage)
	}
	return found.Values, err
}

// chosen leaves the texts that match, at most as many as the limit argument says, as a list which is never nil.
func chosen(r *request, list []string, re *regexp.Regexp) ([]string, error) {
	limit, err := intArg(r, "limit", 0)
	out := []string{}
	for _, s := range list {
		if limit > 0 && len(out) == limit {
			break
		}
		if re == nil || re.MatchString(s) {
			out = append(out, s)
		}
	}
	return out, err
}

// tags serves /tags.
func (a *API) tags(w http.ResponseWriter, r *request) error {
	re, err := filterArg(r)
	if err != nil {
		return err
	}
	names, err := a.tagNames(r, nil)
	if err != nil {
		return err
	}
	if names, err = chosen(r, names, re); err != nil {
		return err
	}
	type tag struct {
		Tag string `json:"tag"`
	}
	list := make([]tag, len(names))
	for i, name := range names {
		list[i].Tag = name
	}
	return a.writeValue(w, r, list)
}

// tagValues serves /tags/<tag>.
func (a *API) tagValues(w http.ResponseWriter, r *request) error {
	re, err := filterArg(r)
	if err != nil {
		return err
	}
	values, err := a.valuesOf(r, r.name, "", nil)
	if err != nil {
		return err
	}
	if values, err = chosen(r, values, re); err != nil {
		return err
	}
	type value struct {
		Value string `json:"value"`
	}
	answer := struct {
		Tag    string  `json:"tag"`
		Values []value `json:"values"`
	}{r.name, make([]value, len(values))}
	for i, v := range values {
		answer.Values[i].Value = v
	}
	return a.writeValue(w, r, answer)
}

// completeTags serves /tags/autoComplete/tags.
func (a *API) completeTags(w http.ResponseWriter, r *request) error {
	filters, err := exprArgs(r)
	if err != nil {
		return err
	}
	names, err := a.tagNames(r, filters)
	if err != nil {
		return err
	}
	prefix := r.Form.Get("tagPrefix")
	names = slices.DeleteFunc(names, func(s string) bool { return !strings.HasPrefix(s, prefix) })
	if names, err = chosen(r, names, nil); err != nil {
		return err
	}
	return a.writeValue(w, r, names)
}

// completeValues serves /tags/autoComplete/values.
func (a *API) completeValues(w http.ResponseWriter, r *request) error {
	tag := r.Form.Get("tag")
	if tag == "" {
		return errkind.New(errkind.BadRequest, "missing `tag` query arg")
	}
	filters, err := exprArgs(r)
	if err != nil {
		return err
	}
	values, err := a.valuesOf(r, tag, r.Form.Get("valuePrefix"), filters)
	if err != nil {
		return err
	}
	if values, err = chosen(r, values, nil); err != nil {
		return err
	}
	return a.writeValue(w, r, values)
}

// findSeries serves /tags/findSeries.
func (a *API) findSeries(w http.ResponseWriter, r *request) error {
	filters, err := exprArgs(r)
	if err != nil {
		return err
	}
	if len(filters) == 0 {
		return errkind.New(errkind.BadRequest, "expecting at least one `expr` query arg")
	}
	q, err := a.ask(r, filters)
	if err != nil {
		return err
	}
	var paths []string
	err = a.eachKey(r, q, func(labels []model.Label) { paths = append(paths, pathOf(labels)) })
	if err != nil {
		return err
	}
	slices.Sort(paths)
	if paths, err = chosen(r, paths, nil); err != nil {
		return err
	}
	return a.writeValue(w, r, paths)
}

// eachKey calls f with the labels of all series that q selects, the metric name first. They are valid during the call.
func (a *API) eachKey(r *request, q *model.SearchQuery, f func(labels []model.Label)) (err error) {
	it, err := a.o.Searcher.Search(r.Context(), q)
	if err != nil {
		return err
	}
	defer func() {
		if closed := it.Close(); err == nil {
			err = closed
		}
	}()
	var labels []model.Label
	for it.Next() {
		if _, labels, err = model.ParseSeriesKey(labels[:0], it.At().Key); err != nil {
			return err
		}
		f(labels)
	}
	if err := it.Err(); err != nil {
		return err
	}
	return a.covered(r, it.Coverage())
}

// pathOf renders a series as Graphite names tagged ones: name;tag=value, by tag.
func pathOf(labels []model.Label) string {
	var name string
	var b strings.Builder
	for _, l := range labels {
		if l.Name == model.MetricNameLabel {
			name = l.Value
			continue
		}
		b.WriteString(";" + l.Name + "=" + l.Value)
	}
	return name + b.String()
}

// tagSeries refuses what Graphite needs before it knows tags, and this database does not.
func (a *API) tagSeries(http.ResponseWriter, *request) error {
	return errkind.New(errkind.Unsupported, "graphite tag registration has been disabled; tags are registered with the samples of a series")
}

// deleteSeries serves /tags/delSeries.
func (a *API) deleteSeries(w http.ResponseWriter, r *request) error {
	if !httpserver.CheckAuthKey(w, r.Request, "deleteAuthKey", a.o.Select.DeleteAuthKey) {
		return nil // answered
	}
	paths := r.Form["path"]
	if len(paths) == 0 {
		return errkind.New(errkind.BadRequest, "missing `path` arg")
	}
	total := 0
	for _, path := range paths {
		filters, err := a.exactly(r, path)
		if err != nil {
			return err
		}
		n, err := a.o.Catalog.DeleteSeries(r.Context(), &model.SearchQuery{Tenant: r.tenant, Filters: [][]model.TagFilter{filters}, MaxSeries: a.o.Select.MaxDeleteSeries})
		if err != nil {
			return err
		}
		total += n
	}
	a.o.Logger.Infof("deleted %d series of tenant %s for %s: %q", total, r.tenant, r.RemoteAddr, httpserver.LoggedURI(r.Request))
	return a.writeValue(w, r, total > 0)
}

// exactly returns filters which the series with the given path passes, and no series with further tags.
func (a *API) exactly(r *request, path string) ([]model.TagFilter, error) {
	name, tags, _ := strings.Cut(path, ";")
	if name == "" {
		return nil, errkind.New(errkind.BadRequest, "cannot delete path %q: it has no metric name; want name;tag=value", path)
	}
	filters := []model.TagFilter{{Name: model.MetricNameLabel, Value: name}}
	known := map[string]bool{model.MetricNameLabel: true}
	for tag := range strings.SplitSeq(tags, ";") {
		if tag == "" {
			continue
		}
		label, value, ok := strings.Cut(tag, "=")
		if !ok || label == "" {
			return nil, errkind.New(errkind.BadRequest, "cannot delete path %q: want name;tag=value", path)
		}
		filters = append(filters, model.TagFilter{Name: label, Value: value})
		known[label] = true
	}
	q := &model.SearchQuery{Tenant: r.tenant, Range: model.TimeRange{Max: a.o.Now().UnixMilli() + 100*365*24*3600*1000}, KeysOnly: true, Filters: [][]model.TagFilter{filters}}
	labels, err := a.o.Searcher.LabelNames(r.Context(), q, 0)
	for _, label := range labels.Values {
		if !known[label] {
			filters = append(filters, model.TagFilter{Name: label})
		}
	}
	if err == nil && labels.Coverage.Partial {
		err = errkind.New(errkind.Unavailable, "cannot delete path %q: some of the storage nodes are unavailable; bring them back and try again", path)
	}
	return filters, err
}
