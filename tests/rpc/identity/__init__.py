"""The identity service over a real server with mTLS, under the identities that it issues itself."""
