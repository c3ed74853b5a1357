package main

import (
	"fmt"
	"strings"

	"cairn/internal/server"
)

// greeting is what the server prints once it takes writes: where it listens, and on the first start lines to paste.
func greeting(s *server.Server, dir string, cred credentials, made bool) string {
	var b strings.Builder
	endpoint := s.S3Scheme() + "://" + s.S3Addr()
	if m := s.Member(); m != nil {
		fmt.Fprintf(&b, "node   %s at %s, roles %s, cluster %s\n", m.Name, m.Addr, m.Roles, s.Cluster())
	}
	if s.S3Addr() == "" {
		fmt.Fprintf(&b, "admin  http://%s (metrics, health, API)\ndata   %s\n", s.AdminAddr(), dir)
		return b.String()
	}
	fmt.Fprintf(&b, "S3     %s\nadmin  http://%s (metrics, health, API)\ndata   %s, profile %s\n", endpoint, s.AdminAddr(), dir, s.Profile())
	if !made {
		return b.String()
	}
	fmt.Fprintf(&b, "\nRoot credentials were made and kept in %s/%s:\n", dir, credentialsName)
	fmt.Fprintf(&b, pasteText, cred.AccessKey, cred.SecretKey, endpoint)
	return b.String()
}

// pasteText takes access key, secret key, endpoint.
const pasteText = `
  # aws
  export AWS_ACCESS_KEY_ID=%[1]s AWS_SECRET_ACCESS_KEY=%[2]s AWS_DEFAULT_REGION=us-east-1
  aws --endpoint-url %[3]s s3 mb s3://models
  aws --endpoint-url %[3]s s3 cp model.safetensors s3://models/

  # boto3
  import boto3
  s3 = boto3.client("s3", endpoint_url="%[3]s", aws_access_key_id="%[1]s",
                    aws_secret_access_key="%[2]s", region_name="us-east-1")

  # rclone
  rclone config create cairn s3 provider=Other endpoint=%[3]s access_key_id=%[1]s secret_access_key=%[2]s
  rclone copy ./model cairn:models/model

`
