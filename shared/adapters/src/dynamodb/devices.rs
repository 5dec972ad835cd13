//! The table of devices: pk = user, sk = device.
//!
//! A token belongs to one device: its owner stands in a marker item, pk = `token#<hash of platform and token>`, sk =
//! `token`, which is written together with the device.

use aws_sdk_dynamodb::Client;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tocsin_domain::{
    Error, Result,
    device::{Device, DeviceEditor, DeviceId, DeviceToken, Devices, Platform},
    ids::UserId,
    push::Endpoint,
    time::Timestamp,
};

use super::{Action, Item, Table, Transacted, keys, read, read_all, text, write, write_all};

/// Devices by user.
#[derive(Clone, Debug)]
pub struct DevicesTable {
    table: Table,
}

impl DevicesTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "devices") }
    }

    /// The items that a device is stored as, with its token's marker: for who fills a table with more of them than can be
    /// put one after the other.
    #[doc(hidden)]
    pub fn items(owner: UserId, device: &Device) -> Result<[Item; 2]> {
        let hash = token_hash(&device.token);
        let mut item = write_all("a device", &Record::of(device))?;
        item.extend(keys(owner, &device.device_id));
        item.insert("token_hash".to_owned(), text(&hash));
        let mut marker = marker_key(&hash);
        marker.insert("user_id".to_owned(), text(owner));
        marker.insert("device_id".to_owned(), text(&device.device_id));
        Ok([item, marker])
    }

    /// Removes the marker of a token, if it is still this device's.
    fn delete_marker(&self, token: &str, owner: UserId, id: &DeviceId) -> Action {
        let mine = "attribute_not_exists(pk) OR (user_id = :owner AND device_id = :device)";
        let delete = self.table.delete(marker_key(token)).on(mine);
        delete.with(":owner", text(owner)).with(":device", text(id))
    }

    /// One try to put a device with its marker; answers whether what was read for it was still so.
    async fn try_put(&self, owner: UserId, device: &Device) -> Result<bool> {
        let hash = token_hash(&device.token);
        let (marker, mine) = tokio::try_join!(
            self.table.get(marker_key(&hash)),
            self.table.get(keys(owner, &device.device_id))
        )?;
        let [item, new_marker] = Self::items(owner, device)?;
        let put = self.table.put(item);
        let mut actions = Vec::new();
        match mine {
            Some(mut mine) => {
                let old: String = read("a device", &mut mine, "token_hash")?;
                actions.push(put.on("token_hash = :old").with(":old", text(&old)));
                if old != hash {
                    actions.push(self.delete_marker(&old, owner, &device.device_id));
                }
            }
            None => actions.push(put.on("attribute_not_exists(pk)")),
        }
        let put_marker = self.table.put(new_marker);
        if let Some(mut marker) = marker {
            let before: UserId = read("a token's owner", &mut marker, "user_id")?;
            let before_device: DeviceId = read("a token's owner", &mut marker, "device_id")?;
            actions.push(
                put_marker
                    .on("user_id = :user AND device_id = :device")
                    .with(":user", text(before))
                    .with(":device", text(&before_device)),
            );
            if (before, &before_device) != (owner, &device.device_id) {
                // Unless that device has got another token meanwhile.
                let delete = self.table.delete(keys(before, &before_device));
                let same = "attribute_not_exists(pk) OR token_hash = :hash";
                actions.push(delete.on(same).with(":hash", text(&hash)));
            }
        } else {
            actions.push(put_marker.on("attribute_not_exists(pk)"));
        }
        Ok(matches!(self.table.transact(actions).await?, Transacted::Done))
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    platform: Platform,
    token: String,
    endpoint: Endpoint,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Record {
    fn of(device: &Device) -> Self {
        Self {
            platform: device.token.platform,
            token: device.token.token.clone(),
            endpoint: device.endpoint.clone(),
            created_at: device.created_at,
            updated_at: device.updated_at,
        }
    }

    fn into_device(self, device_id: DeviceId) -> Device {
        let token = DeviceToken { platform: self.platform, token: self.token };
        let Self { endpoint, created_at, updated_at, .. } = self;
        Device { device_id, token, endpoint, created_at, updated_at }
    }
}

impl Devices for DevicesTable {
    async fn of(&self, owner: UserId) -> Result<Vec<Device>> {
        self.table.under(owner.to_string()).await?.into_iter().map(device).collect()
    }
}

impl DeviceEditor for DevicesTable {
    async fn put(&self, owner: UserId, device: &Device) -> Result<()> {
        for _ in 0..MOST_TRIES {
            if self.try_put(owner, device).await? {
                return Ok(());
            }
        }
        Err(Error::unavailable(self.table.service, "a device is put by many at once"))
    }

    async fn remove(&self, owner: UserId, id: &DeviceId) -> Result<Option<Device>> {
        for _ in 0..MOST_TRIES {
            let Some(item) = self.table.get(keys(owner, id)).await? else { return Ok(None) };
            let device = device(item)?;
            // Together with its marker: if that went later, it could be the one of a device that was put in between.
            if self.remove_if(owner, &device).await? {
                return Ok(Some(device));
            }
        }
        Err(Error::unavailable(self.table.service, "a device is put by many at once"))
    }

    async fn repair(&self, owner: UserId, seen: &Device, endpoint: &Endpoint) -> Result<bool> {
        let repair = self.table.update(keys(owner, &seen.device_id), "SET endpoint = :endpoint");
        let repair = repair.on("token_hash = :hash").with(":hash", text(token_hash(&seen.token)));
        let repair = repair.with(":endpoint", text(&endpoint.0));
        Ok(matches!(self.table.transact(vec![repair]).await?, Transacted::Done))
    }

    async fn remove_if(&self, owner: UserId, seen: &Device) -> Result<bool> {
        let hash = token_hash(&seen.token);
        let delete = self
            .table
            .delete(keys(owner, &seen.device_id))
            .on("token_hash = :hash AND endpoint = :endpoint AND updated_at = :updated_at")
            .with(":hash", text(&hash))
            .with(":endpoint", text(&seen.endpoint.0))
            .with(":updated_at", write("a time", &seen.updated_at)?);
        let actions = vec![delete, self.delete_marker(&hash, owner, &seen.device_id)];
        Ok(matches!(self.table.transact(actions).await?, Transacted::Done))
    }
}

const MOST_TRIES: usize = 5;

fn device(mut item: Item) -> Result<Device> {
    let id = read("a device", &mut item, "sk")?;
    Ok(read_all::<Record>("a device", item)?.into_device(id))
}

fn marker_key(hash: &str) -> Item {
    keys(format!("token#{hash}"), "token")
}

/// Tokens may be longer than a key, which has at most 2,048 bytes.
fn token_hash(token: &DeviceToken) -> String {
    format!("{:x}", Sha256::digest(format!("{:?}:{}", token.platform, token.token)))
}
