package s3api

import (
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"cairn"
	"cairn/lifecycle"
	"cairn/meta"
)

// Lifecycle configurations: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html.

const (
	maxLifecycleRules    = 1000
	maxRuleID            = 255
	maxNewerNoncurrent   = 100
	maxLifecycleDocument = 1 << 20 // 1,000 rules with their filters
)

var errNoLifecycle = missing("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")

// lifecycleOperations is the part of the table that is about lifecycle rules.
func lifecycleOperations() []operation {
	return []operation{
		{name: "GetBucketLifecycleConfiguration", action: "s3:GetLifecycleConfiguration", level: bucket, method: "GET", query: "lifecycle", handle: (*call).getLifecycle},
		{name: "PutBucketLifecycleConfiguration", action: "s3:PutLifecycleConfiguration", level: bucket, method: "PUT", query: "lifecycle", handle: (*call).putLifecycle},
		{name: "DeleteBucketLifecycle", action: "s3:PutLifecycleConfiguration", level: bucket, method: "DELETE", query: "lifecycle", handle: (*call).deleteLifecycle},
	}
}

type lifecycleDoc struct {
	XMLName xml.Name  `xml:"LifecycleConfiguration"`
	Rules   []ruleDoc `xml:"Rule"`
}

type ruleDoc struct {
	ID         string
	Status     string
	Prefix     *string
	Filter     *filterDoc
	Expiration *struct {
		Days                      *int
		Date                      *string
		ExpiredObjectDeleteMarker *bool
	}
	NoncurrentVersionExpiration *struct {
		NoncurrentDays          *int
		NewerNoncurrentVersions *int
	}
	AbortIncompleteMultipartUpload *struct{ DaysAfterInitiation *int }
	Transition                     []struct{ Date *string } `xml:"Transition"`
	NoncurrentVersionTransition    []struct{}               `xml:"NoncurrentVersionTransition"`
}

type conditionsDoc struct {
	Prefix                *string
	Tag                   []struct{ Key, Value string }
	ObjectSizeGreaterThan *int64
	ObjectSizeLessThan    *int64
}

type filterDoc struct {
	conditionsDoc
	And *conditionsDoc
}

func (c *call) putLifecycle() error {
	if err := c.needDigest(); err != nil {
		return err
	}
	doc, release, err := c.readDocument(maxLifecycleDocument)
	if err != nil {
		return err
	}
	defer release()
	var d lifecycleDoc
	if err := decodeXML(doc, "LifecycleConfiguration", &d); err != nil {
		return err
	}
	rules, err := d.parse()
	if err != nil {
		return err
	}
	stored, err := json.Marshal(rules)
	if err != nil {
		return err
	}
	return c.setConfig(meta.LifecycleConfig, string(stored), http.StatusOK)
}

func (c *call) deleteLifecycle() error {
	return c.setConfig(meta.LifecycleConfig, "", http.StatusNoContent)
}

// parse checks a document's rules as S3 does.
func (d *lifecycleDoc) parse() (*lifecycle.Config, error) {
	if len(d.Rules) == 0 || len(d.Rules) > maxLifecycleRules {
		return nil, errMalformedXML
	}
	out := &lifecycle.Config{Rules: make([]lifecycle.Rule, len(d.Rules))}
	seen := make(map[string]bool)
	for i := range d.Rules {
		r, err := d.Rules[i].parse()
		if err != nil {
			return nil, err
		}
		if seen[r.ID] {
			return nil, errInvalidArgument.with("Rule ID must be unique. Found same ID for more than one rule")
		}
		seen[r.ID], out.Rules[i] = true, r
	}
	return out, nil
}

func (d *ruleDoc) parse() (r lifecycle.Rule, err error) {
	switch {
	case len(d.ID) > maxRuleID:
		return r, errInvalidArgument.with("ID length should not exceed allowed limit of 255")
	case d.Status != "Enabled" && d.Status != "Disabled", (d.Filter == nil) == (d.Prefix == nil):
		return r, errMalformedXML
	case len(d.Transition)+len(d.NoncurrentVersionTransition) > 0:
		for _, t := range d.Transition {
			if t.Date == nil {
				continue
			}
			if _, err := parseRuleDate(*t.Date); err != nil {
				return r, err
			}
		}
		return r, errNotImplemented.with("Transitions to another storage class are not available: no rule was changed.")
	case d.Expiration == nil && d.NoncurrentVersionExpiration == nil && d.AbortIncompleteMultipartUpload == nil:
		return r, errInvalidRequest.with("At least one action needs to be specified in a rule")
	}
	r.ID, r.Disabled = d.ID, d.Status == "Disabled"
	if r.ID == "" {
		r.ID = rand.Text()
	}
	if r.Filter, err = d.filter(); err != nil {
		return r, err
	}
	for _, read := range []func(*lifecycle.Rule) error{d.expiration, d.noncurrent, d.abort} {
		if err := read(&r); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (d *ruleDoc) filter() (f lifecycle.Filter, err error) {
	if d.Filter == nil {
		f.Prefix = *d.Prefix
		return f, nil
	}
	one, and := &d.Filter.conditionsDoc, d.Filter.And
	f.Form = lifecycle.Single
	if n := one.count(); n > 1 || n == 1 && and != nil {
		return f, errMalformedXML
	}
	if and != nil {
		one, f.Form = and, lifecycle.And
	}
	if one.Prefix != nil {
		f.Prefix = *one.Prefix
	}
	f.GreaterThan, f.LessThan = one.ObjectSizeGreaterThan, one.ObjectSizeLessThan
	if len(one.Tag) > 0 {
		f.Tags = make(map[string]string, len(one.Tag))
	}
	for _, t := range one.Tag {
		if _, twice := f.Tags[t.Key]; twice {
			return f, errInvalidRequest.with("Duplicate Tag Keys are not allowed.")
		}
		f.Tags[t.Key] = t.Value
	}
	if err := checkTags(f.Tags, maxTags); err != nil {
		return f, err
	}
	return f, checkSizes(&f)
}

func (d *conditionsDoc) count() int {
	n := len(d.Tag)
	for _, set := range []bool{d.Prefix != nil, d.ObjectSizeGreaterThan != nil, d.ObjectSizeLessThan != nil} {
		if set {
			n++
		}
	}
	return n
}

func checkSizes(f *lifecycle.Filter) error {
	switch {
	case f.GreaterThan != nil && *f.GreaterThan < 0:
		return errInvalidRequest.with("'ObjectSizeGreaterThan' should be a positive value.")
	case f.LessThan != nil && *f.LessThan < 1:
		return errInvalidRequest.with("'ObjectSizeLessThan' should be a positive value.")
	case f.GreaterThan != nil && f.LessThan != nil && *f.GreaterThan >= *f.LessThan:
		return errInvalidRequest.with("'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.")
	}
	return nil
}

// positive reads a number of days or versions, which is at least 1.
func positive(n *int, name string) (int, error) {
	if n == nil || *n < 1 || *n > 1<<31-1 {
		return 0, errInvalidArgument.with("'" + name + "' must be a positive integer")
	}
	return *n, nil
}

func (d *ruleDoc) expiration(r *lifecycle.Rule) (err error) {
	e := d.Expiration
	if e == nil {
		return nil
	}
	switch {
	case e.Days != nil && e.Date == nil && e.ExpiredObjectDeleteMarker == nil:
		r.Days, err = positive(e.Days, "Days")
		return err
	case e.Date != nil && e.Days == nil && e.ExpiredObjectDeleteMarker == nil:
		r.Date, err = parseRuleDate(*e.Date)
		return err
	case e.ExpiredObjectDeleteMarker != nil && e.Days == nil && e.Date == nil:
		if *e.ExpiredObjectDeleteMarker && (len(r.Filter.Tags) > 0 || r.Filter.GreaterThan != nil || r.Filter.LessThan != nil) {
			return errInvalidRequest.with("ExpiredObjectDeleteMarker cannot be specified with Object Tag or size filters.")
		}
		r.ExpireMarkers = *e.ExpiredObjectDeleteMarker
		return nil
	}
	return errMalformedXML
}

// parseRuleDate reads a date, which must be a midnight.
func parseRuleDate(s string) (t time.Time, err error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02"} {
		if t, err = time.Parse(layout, s); err == nil {
			break
		}
	}
	switch {
	case err != nil:
		return t, errMalformedXML
	case !t.UTC().Equal(t.UTC().Truncate(24 * time.Hour)):
		return t, errInvalidArgument.with("'Date' must be at midnight GMT")
	}
	return t.UTC(), nil
}

func (d *ruleDoc) noncurrent(r *lifecycle.Rule) (err error) {
	n := d.NoncurrentVersionExpiration
	if n == nil {
		return nil
	}
	if n.NoncurrentDays == nil {
		return errMalformedXML
	}
	if r.NoncurrentDays, err = positive(n.NoncurrentDays, "NoncurrentDays"); err != nil || n.NewerNoncurrentVersions == nil {
		return err
	}
	r.NewerNoncurrent, err = positive(n.NewerNoncurrentVersions, "NewerNoncurrentVersions")
	if err == nil && r.NewerNoncurrent > maxNewerNoncurrent {
		err = errInvalidArgument.with("'NewerNoncurrentVersions' must be at most " + strconv.Itoa(maxNewerNoncurrent))
	}
	return err
}

func (d *ruleDoc) abort(r *lifecycle.Rule) (err error) {
	a := d.AbortIncompleteMultipartUpload
	switch {
	case a == nil:
		return nil
	case len(r.Filter.Tags) > 0:
		return errInvalidRequest.with("AbortIncompleteMultipartUpload cannot be specified with Tags.")
	case r.Filter.GreaterThan != nil || r.Filter.LessThan != nil:
		return errInvalidRequest.with("AbortIncompleteMultipartUpload cannot be specified with Object Size.")
	case a.DaysAfterInitiation == nil:
		return errMalformedXML
	}
	r.AbortDays, err = positive(a.DaysAfterInitiation, "DaysAfterInitiation")
	return err
}

func (c *call) getLifecycle() error {
	row, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	stored := row.Configs[meta.LifecycleConfig]
	if stored == "" {
		return errNoLifecycle.with("", field{"BucketName", c.bucket})
	}
	var rules lifecycle.Config
	if err := json.Unmarshal([]byte(stored), &rules); err != nil {
		return &cairn.Error{Op: "s3api.get lifecycle", Subject: c.bucket, Err: cairn.ErrCorrupt}
	}
	return c.render(func(b []byte) []byte {
		b = append(b, `<LifecycleConfiguration xmlns="`+xmlNamespace+`">`...)
		for i := range rules.Rules {
			b = appendRule(b, &rules.Rules[i])
		}
		return append(b, "</LifecycleConfiguration>"...)
	})
}

func appendRule(b []byte, r *lifecycle.Rule) []byte {
	b = append(b, "<Rule>"...)
	b = appendElement(b, "ID", r.ID)
	b = appendFilter(b, &r.Filter)
	status := "Enabled"
	if r.Disabled {
		status = "Disabled"
	}
	b = appendElement(b, "Status", status)
	switch {
	case r.Days > 0:
		b = append(b, "<Expiration>"...)
		b = append(appendInt(b, "Days", int64(r.Days)), "</Expiration>"...)
	case !r.Date.IsZero():
		b = append(b, "<Expiration>"...)
		b = append(appendTime(b, "Date", r.Date), "</Expiration>"...)
	case r.ExpireMarkers:
		b = append(b, "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"...)
	}
	if r.NoncurrentDays > 0 {
		b = append(b, "<NoncurrentVersionExpiration>"...)
		b = appendInt(b, "NoncurrentDays", int64(r.NoncurrentDays))
		if r.NewerNoncurrent > 0 {
			b = appendInt(b, "NewerNoncurrentVersions", int64(r.NewerNoncurrent))
		}
		b = append(b, "</NoncurrentVersionExpiration>"...)
	}
	if r.AbortDays > 0 {
		b = append(b, "<AbortIncompleteMultipartUpload>"...)
		b = append(appendInt(b, "DaysAfterInitiation", int64(r.AbortDays)), "</AbortIncompleteMultipartUpload>"...)
	}
	return append(b, "</Rule>"...)
}

func appendFilter(b []byte, f *lifecycle.Filter) []byte {
	if f.Form == lifecycle.PlainPrefix {
		return appendElement(b, "Prefix", f.Prefix)
	}
	b = append(b, "<Filter>"...)
	if f.Form == lifecycle.And {
		b = append(b, "<And>"...)
	}
	conditions := len(f.Tags)
	if f.Prefix != "" || f.Form == lifecycle.Single && conditions == 0 && f.GreaterThan == nil && f.LessThan == nil {
		b = appendElement(b, "Prefix", f.Prefix)
	}
	for _, k := range slices.Sorted(maps.Keys(f.Tags)) {
		b = append(b, "<Tag>"...)
		b = appendElement(b, "Key", k)
		b = append(appendElement(b, "Value", f.Tags[k]), "</Tag>"...)
	}
	if f.GreaterThan != nil {
		b = appendInt(b, "ObjectSizeGreaterThan", *f.GreaterThan)
	}
	if f.LessThan != nil {
		b = appendInt(b, "ObjectSizeLessThan", *f.LessThan)
	}
	if f.Form == lifecycle.And {
		b = append(b, "</And>"...)
	}
	return append(b, "</Filter>"...)
}

// setExpiry tells when a lifecycle rule will end a current version.
func (c *call) setExpiry(v *cairn.Version) {
	if !v.Expires.IsZero() {
		c.set("X-Amz-Expiration", `expiry-date="`+v.Expires.UTC().Format(http.TimeFormat)+`", rule-id="`+escapeRuleID(v.ExpiryRule)+`"`)
	}
}

// escapeRuleID percent-encodes what a header value between quotes cannot carry.
func escapeRuleID(id string) string {
	var b strings.Builder
	for i := range len(id) {
		if ch := id[i]; ch < ' ' || ch > '~' || ch == '"' || ch == '%' {
			b.WriteString("%" + strings.ToUpper(strconv.FormatUint(uint64(ch)+0x100, 16)[1:]))
		} else {
			b.WriteByte(ch)
		}
	}
	return b.String()
}

// setAbort tells when a lifecycle rule will abort an upload.
func (c *call) setAbort(u *cairn.Upload) {
	if !u.Expires.IsZero() {
		c.set("X-Amz-Abort-Date", u.Expires.UTC().Format(http.TimeFormat))
		c.set("X-Amz-Abort-Rule-Id", escapeRuleID(u.ExpiryRule))
	}
}
