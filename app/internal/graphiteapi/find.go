package graphiteapi

import (
	"bufio"
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/graphite"
	"vmcluster/lib/model"
)

// entry is a node of the tree of paths.
type entry struct {
	path string // with the delimiter at the end of branches
	text string // the last component
	leaf bool
}

// lookup are the arguments which find and expand share.
type lookup struct {
	r         *request
	label     string
	delimiter byte
	leaves    bool
	times     model.TimeRange
}

func (a *API) lookup(r *request) (*lookup, error) {
	l := &lookup{r: r, label: cmp.Or(r.Form.Get("label"), "name"), delimiter: '.', leaves: boolArg(r, "leavesOnly")}
	l.label = labelOf(l.label)
	if d := r.Form.Get("delimiter"); d != "" {
		if len(d) != 1 || d[0] >= 0x80 || strings.ContainsAny(d, `*?[]{},\`) {
			return nil, errkind.New(errkind.BadRequest, "cannot use delimiter=%q: want one ASCII character which is no wildcard", d)
		}
		l.delimiter = d[0]
	}
	var err error
	l.times, err = a.rangeArg(r)
	return l, err
}

// entries returns the nodes which a path expression matches, by the path of their parents, branches first.
func (a *API) entries(l *lookup, query string) ([]entry, error) {
	if err := a.checkLen(query); err != nil {
		return nil, err
	}
	pattern, err := graphite.ParsePattern(query, l.delimiter)
	if err != nil {
		return nil, err
	}
	depth := len(pattern.Components)
	p := &pager{api: a, r: l.r, label: l.label, times: l.times}
	if query != "*" {
		p.filter = []model.TagFilter{{Name: l.label, Op: model.Regexp, Value: pattern.Below()}}
	}
	var list []entry
	err = p.each(l.r.Context(), func(value string) (string, error) {
		e, branch := nodeOf(value, depth, l.delimiter)
		if e.leaf || !l.leaves {
			list = append(list, e)
		}
		if most := a.o.Config.MaxNodes; most > 0 && len(list) > most {
			return "", errkind.New(errkind.Unprocessable, "cannot answer more than %d nodes; narrow the path expression or raise -search.maxTagValueSuffixesPerSearch", most)
		}
		return branch, nil
	})
	slices.SortFunc(list, func(x, y entry) int {
		return cmp.Or(strings.Compare(x.path[:len(x.path)-x.tail()], y.path[:len(y.path)-y.tail()]), x.rank()-y.rank(), strings.Compare(x.text, y.text))
	})
	return list, err
}

// tail is the length of what follows the path of the parent.
func (e *entry) tail() int { return len(e.text) + 1 - e.rank() }

// rank puts branches before leaves.
func (e *entry) rank() int {
	if e.leaf {
		return 1
	}
	return 0
}

// nodeOf returns the node of a value at a depth, and the branch that it is, if any.
func nodeOf(value string, depth int, delimiter byte) (e entry, branch string) {
	start, end := 0, len(value)
	for pos, n := 0, 1; ; n++ {
		i := strings.IndexByte(value[pos:], delimiter)
		if n == depth {
			start = pos
			if i >= 0 {
				end = pos + i
			}
			break
		}
		if i < 0 { // braces with delimiters in them make the depth uncertain
			start = pos
			break
		}
		pos += i + 1
	}
	if end == len(value) {
		return entry{path: value, text: value[start:], leaf: true}, ""
	}
	branch = value[:end+1]
	return entry{path: branch, text: value[start:end]}, branch
}

// find serves /metrics/find.
func (a *API) find(w http.ResponseWriter, r *request) error {
	format := cmp.Or(r.Form.Get("format"), "treejson")
	if format != "treejson" && format != "completer" {
		return errkind.New(errkind.BadRequest, `unexpected "format" query arg: %q; expecting "treejson" or "completer"`, format)
	}
	query := r.Form.Get("query")
	if query == "" {
		return errkind.New(errkind.BadRequest, "expecting non-empty `query` arg")
	}
	l, err := a.lookup(r)
	if err != nil {
		return err
	}
	if format == "completer" && !strings.HasSuffix(query, "*") {
		query += "*"
	}
	if boolArg(r, "automatic_variants") {
		query = withVariants(query, l.delimiter)
	}
	list, err := a.entries(l, query)
	if err != nil {
		return err
	}
	wildcards := boolArg(r, "wildcards") && len(list) > 1
	prefix := query[:strings.LastIndexByte(query, l.delimiter)+1]
	if format == "completer" {
		return a.writeCompletions(w, r, list, wildcards)
	}
	return a.writeTree(w, r, merged(list, prefix, l.delimiter), prefix, wildcards)
}

// withVariants puts braces around components with commas.
func withVariants(query string, delimiter byte) string {
	parts := strings.Split(query, string(delimiter))
	for i, part := range parts {
		if strings.Contains(part, ",") && !strings.ContainsAny(part, "{}") {
			parts[i] = "{" + part + "}"
		}
	}
	return strings.Join(parts, string(delimiter))
}

// merged puts nodes of the same name below different parents into one, whose path begins as the query does.
func merged(list []entry, prefix string, delimiter byte) []entry {
	for i := range list {
		e := &list[i]
		e.path = prefix + e.text
		if !e.leaf {
			e.path += string(delimiter)
		}
	}
	slices.SortFunc(list, func(x, y entry) int { return cmp.Or(strings.Compare(x.text, y.text), x.rank()-y.rank()) })
	return slices.Compact(list)
}

// treeNode is a node as trees of browsers want it.
type treeNode struct {
	ID            string `json:"id"`
	Text          string `json:"text"`
	AllowChildren int    `json:"allowChildren"`
	Expandable    int    `json:"expandable"`
	Leaf          int    `json:"leaf"`
}

func (a *API) writeTree(w http.ResponseWriter, r *request, list []entry, prefix string, wildcards bool) error {
	nodes := make([]treeNode, 0, len(list)+1)
	branches := 0
	for i := range list {
		e := &list[i]
		branch := 1 - e.rank()
		branches = max(branches, branch)
		nodes = append(nodes, treeNode{e.path, e.text, branch, branch, e.rank()})
	}
	if wildcards {
		nodes = append(nodes, treeNode{prefix + "*", "*", branches, branches, 1 - branches})
	}
	return a.writeValue(w, r, nodes)
}

// completion is a node as completing text fields want it.
type completion struct {
	Path   string `json:"path"`
	Name   string `json:"name"`
	IsLeaf int    `json:"is_leaf"`
}

func (a *API) writeCompletions(w http.ResponseWriter, r *request, list []entry, wildcards bool) error {
	metrics := make([]completion, 0, len(list)+1)
	for i := range list {
		metrics = append(metrics, completion{list[i].path, list[i].text, list[i].rank()})
	}
	if wildcards {
		metrics = append(metrics, completion{Name: "*"})
	}
	return a.writeValue(w, r, map[string][]completion{"metrics": metrics})
}

// expand serves /metrics/expand.
func (a *API) expand(w http.ResponseWriter, r *request) error {
	queries := r.Form["query"]
	if len(queries) == 0 {
		return errkind.New(errkind.BadRequest, "missing `query` arg")
	}
	l, err := a.lookup(r)
	if err != nil {
		return err
	}
	all := []string{}
	groups := map[string][]string{}
	for _, query := range queries {
		list, err := a.entries(l, query)
		if err != nil {
			return err
		}
		paths := make([]string, len(list))
		for i := range list {
			paths[i] = list[i].path
		}
		groups[query] = paths
		all = append(all, paths...)
	}
	if boolArg(r, "groupByExpr") {
		return a.writeValue(w, r, map[string]map[string][]string{"results": groups})
	}
	return a.writeValue(w, r, all)
}

// index serves /metrics/index.json, page by page.
func (a *API) index(w http.ResponseWriter, r *request) error {
	times, err := a.rangeArg(r)
	if err != nil {
		return err
	}
	p := &pager{api: a, r: r, label: model.MetricNameLabel, times: times}
	return a.writeJSON(w, r, func(b *bufio.Writer) error {
		separator := "["
		err := p.each(r.Context(), func(value string) (string, error) {
			text, err := json.Marshal(value)
			if err != nil {
				return "", err
			}
			_, _ = b.WriteString(separator)
			separator = ","
			_, err = b.Write(text)
			return "", err
		})
		if separator == "[" {
			_ = b.WriteByte('[')
		}
		_ = b.WriteByte(']')
		return err
	})
}
