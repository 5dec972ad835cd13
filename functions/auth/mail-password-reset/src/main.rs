//! Consumes the queue of password resets: mails a token to each address that has an account.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::UsersTable, ses::SesMailer};
use tocsin_domain::{
    Result,
    password_reset::{self, ResetRequest},
    time,
};
use tocsin_lambda::start;

type Ports = (UsersTable, SesMailer);

fn main() -> ExitCode {
    start::messages(mail_password_reset)
}

async fn mail_password_reset((users, mailer): &Ports, reset: ResetRequest) -> Result<()> {
    password_reset::mail_token(users, mailer, &reset, time::now()).await
}
