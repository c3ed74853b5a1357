package s3api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"

	"cairn"
	"cairn/events"
	"cairn/meta"
)

// Event notifications: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html.

const maxEventRules = 100

// EventTargets knows whom events can be told. *meta.Store is one.
type EventTargets interface {
	EventTargets(ctx context.Context) ([]events.Target, error)
}

func notificationOperations() []operation {
	return []operation{
		{name: "GetBucketNotificationConfiguration", action: "s3:GetBucketNotification", level: bucket, method: "GET", query: "notification", handle: (*call).getNotification},
		{name: "PutBucketNotificationConfiguration", action: "s3:PutBucketNotification", level: bucket, method: "PUT", query: "notification", handle: (*call).putNotification},
	}
}

type notificationDoc struct {
	Queues      []queueDoc `xml:"QueueConfiguration"`
	Topics      []struct{} `xml:"TopicConfiguration"`
	Functions   []struct{} `xml:"CloudFunctionConfiguration"`
	EventBridge *struct{}  `xml:"EventBridgeConfiguration"`
}

type queueDoc struct {
	ID     string `xml:"Id"`
	Queue  string
	Event  []string
	Filter *struct {
		Rules []struct{ Name, Value string } `xml:"S3Key>FilterRule"`
	}
}

func (c *call) putNotification() error {
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil {
		return err
	}
	defer release()
	var d notificationDoc
	if err := decodeXML(doc, "NotificationConfiguration", &d); err != nil {
		return err
	}
	rules, err := d.parse()
	if err != nil {
		return err
	}
	if err := c.checkTargets(rules); err != nil {
		return err
	}
	stored := ""
	if len(rules.Rules) > 0 {
		text, err := json.Marshal(rules)
		if err != nil {
			return err
		}
		stored = string(text)
	}
	return c.setConfig(meta.NotificationConfig, stored, http.StatusOK)
}

func (d *notificationDoc) parse() (*events.Config, error) {
	if len(d.Topics)+len(d.Functions) > 0 || d.EventBridge != nil {
		return nil, errNotImplemented.with("Events are told to webhooks, which a QueueConfiguration names: nothing was changed.")
	}
	if len(d.Queues) > maxEventRules {
		return nil, errInvalidArgument.with("A bucket has at most 100 event rules.")
	}
	out := &events.Config{}
	seen := map[string]bool{}
	for i := range d.Queues {
		r, err := d.Queues[i].parse()
		if err != nil {
			return nil, err
		}
		if seen[r.ID] {
			return nil, errInvalidArgument.with("Same ID used for multiple configurations. IDs must be unique")
		}
		seen[r.ID] = true
		for j := range out.Rules {
			if out.Rules[j].Overlaps(&r) {
				return nil, errInvalidArgument.with("Configurations overlap. Configurations on the same bucket cannot share a common event type.")
			}
		}
		out.Rules = append(out.Rules, r)
	}
	return out, nil
}

func (d *queueDoc) parse() (r events.Rule, err error) {
	if len(d.ID) > maxRuleID {
		return r, errInvalidArgument.with("ID length should not exceed allowed limit of 255")
	}
	if r.ID = d.ID; r.ID == "" {
		r.ID = rand.Text()
	}
	target, ok := events.TargetOfARN(d.Queue)
	if !ok {
		return r, errInvalidArgument.with("The ARN is not well formed", field{"ArgumentName", "Queue"}, field{"ArgumentValue", d.Queue})
	}
	r.Target, r.Events = target, d.Event
	if len(d.Event) == 0 {
		return r, errMalformedXML
	}
	for _, name := range d.Event {
		if !events.Known(name) {
			return r, errInvalidArgument.with("The event is not supported for notifications", field{"ArgumentName", "Event"},
				field{"ArgumentValue", name})
		}
	}
	if d.Filter == nil {
		return r, nil
	}
	for _, f := range d.Filter.Rules {
		into := &r.Prefix
		switch strings.ToLower(f.Name) {
		case "prefix":
		case "suffix":
			into = &r.Suffix
		default:
			return r, errInvalidArgument.with("filter rule name must be either prefix or suffix", field{"ArgumentName", "FilterRule.Name"},
				field{"ArgumentValue", f.Name})
		}
		if *into != "" {
			return r, errInvalidArgument.with("Cannot specify more than one " + strings.ToLower(f.Name) + " rule in a filter.")
		}
		*into = f.Value
	}
	return r, nil
}

// checkTargets refuses rules whose events nobody would get.
func (c *call) checkTargets(rules *events.Config) error {
	if len(rules.Rules) == 0 {
		return nil
	}
	if c.srv.cfg.EventTargets == nil {
		return errNotImplemented.with("There is nothing here that delivers events: nothing was changed.")
	}
	targets, err := c.srv.cfg.EventTargets.EventTargets(c.r.Context())
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, t := range targets {
		known[t.Name] = true
	}
	for i := range rules.Rules {
		if name := rules.Rules[i].Target; !known[name] {
			return errInvalidArgument.with("Unable to validate the following destination configurations", field{"ArgumentName", events.ARN(name)},
				field{"ArgumentValue", "The destination does not exist: an operator adds it by cairn event target add"})
		}
	}
	return nil
}

func (c *call) getNotification() error {
	row, err := c.srv.cfg.Objects.Bucket(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	var rules events.Config
	if s := row.Configs[meta.NotificationConfig]; s != "" {
		if err := json.Unmarshal([]byte(s), &rules); err != nil {
			return &cairn.Error{Op: "s3api.get notification", Subject: c.bucket, Err: cairn.ErrCorrupt}
		}
	}
	return c.render(func(b []byte) []byte {
		b = append(b, `<NotificationConfiguration xmlns="`+xmlNamespace+`">`...)
		for i := range rules.Rules {
			b = appendEventRule(b, &rules.Rules[i])
		}
		return append(b, "</NotificationConfiguration>"...)
	})
}

func appendEventRule(b []byte, r *events.Rule) []byte {
	b = append(b, "<QueueConfiguration>"...)
	b = appendElement(b, "Id", r.ID)
	b = appendElement(b, "Queue", events.ARN(r.Target))
	for _, name := range r.Events {
		b = appendElement(b, "Event", name)
	}
	if r.Prefix != "" || r.Suffix != "" {
		b = append(b, "<Filter><S3Key>"...)
		for _, f := range []field{{"Prefix", r.Prefix}, {"Suffix", r.Suffix}} {
			if f.value != "" {
				b = append(b, "<FilterRule>"...)
				b = appendElement(b, "Name", f.name)
				b = append(appendElement(b, "Value", f.value), "</FilterRule>"...)
			}
		}
		b = append(b, "</S3Key></Filter>"...)
	}
	return append(b, "</QueueConfiguration>"...)
}

// nameCaller notes who makes the request, where the bucket tells somebody of what happens in it.
func (c *call) nameCaller() {
	if c.bucket == "" || c.r.Method == http.MethodGet || c.r.Method == http.MethodHead {
		return
	}
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err == nil && a.row.Configs[meta.NotificationConfig] != "" { // without a bucket the operation itself says so
		c.r = c.r.WithContext(cairn.WithCaller(c.r.Context(), cairn.Caller{Account: c.who.Account, Address: c.sourceIP(), Form: c.form}))
	}
}
