package events

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"
)

// Event is one thing that happened, as it is queued.
type Event struct {
	Kind      Kind      `json:"kind"`
	Rule      string    `json:"rule"` // ID of the rule that it matched
	Time      time.Time `json:"time"`
	Bucket    string    `json:"bucket"`
	Owner     string    `json:"owner"` // of the bucket
	Key       string    `json:"key"`
	Size      int64     `json:"size,omitempty"`
	ETag      string    `json:"etag,omitempty"`
	Version   string    `json:"version,omitempty"` // as S3 shows it, "" where the bucket keeps none
	Sequencer string    `json:"seq"`               // rises with every change of the key
	Account   string    `json:"account,omitempty"` // who did it, "" if nobody known
	Address   string    `json:"address,omitempty"` // from where
}

// Queued is an event in its place of a target's queue.
type Queued struct {
	Row   string // its key, for package meta
	Event Event
}

type record struct {
	EventVersion      string            `json:"eventVersion"`
	EventSource       string            `json:"eventSource"`
	AWSRegion         string            `json:"awsRegion"`
	EventTime         string            `json:"eventTime"`
	EventName         string            `json:"eventName"`
	UserIdentity      identity          `json:"userIdentity"`
	RequestParameters map[string]string `json:"requestParameters"`
	ResponseElements  map[string]string `json:"responseElements"`
	S3                s3Record          `json:"s3"`
}

type identity struct {
	PrincipalID string `json:"principalId"`
}

type s3Record struct {
	SchemaVersion   string `json:"s3SchemaVersion"`
	ConfigurationID string `json:"configurationId"`
	Bucket          struct {
		Name          string   `json:"name"`
		OwnerIdentity identity `json:"ownerIdentity"`
		ARN           string   `json:"arn"`
	} `json:"bucket"`
	Object struct {
		Key       string `json:"key"` // percent-encoded, blanks as plus signs
		Size      int64  `json:"size,omitempty"`
		ETag      string `json:"eTag,omitempty"`
		VersionID string `json:"versionId,omitempty"`
		Sequencer string `json:"sequencer"`
	} `json:"object"`
}

// Document is what a target gets: S3's message with one record, and beside it name and key as plain text.
// Source: "Event message structure" in the Amazon S3 User Guide.
func (e *Event) Document(region string) ([]byte, error) {
	r := record{EventVersion: "2.1", EventSource: "aws:s3", AWSRegion: region, EventTime: e.Time.UTC().Format("2006-01-02T15:04:05.000Z"),
		EventName: strings.TrimPrefix(string(e.Kind), "s3:"), UserIdentity: identity{e.Account},
		RequestParameters: map[string]string{"sourceIPAddress": e.Address}, ResponseElements: map[string]string{}}
	r.S3.SchemaVersion, r.S3.ConfigurationID = "1.0", e.Rule
	r.S3.Bucket.Name, r.S3.Bucket.OwnerIdentity.PrincipalID, r.S3.Bucket.ARN = e.Bucket, e.Owner, "arn:aws:s3:::"+e.Bucket
	r.S3.Object.Key = strings.ReplaceAll(url.QueryEscape(e.Key), "%2F", "/")
	r.S3.Object.Size, r.S3.Object.ETag, r.S3.Object.VersionID, r.S3.Object.Sequencer = e.Size, e.ETag, e.Version, e.Sequencer
	return json.Marshal(struct {
		EventName string
		Key       string
		Records   []record
	}{string(e.Kind), e.Bucket + "/" + e.Key, []record{r}})
}
